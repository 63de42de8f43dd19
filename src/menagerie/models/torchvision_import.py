"""torchvision, imported so that it also works beside a CPU-only torch: `from ... import torchvision`.

The compiled operators in torchvision's wheel need CUDA libraries. Beside a torch without them the import fails, since
torchvision registers shapes for operators that were never defined. Declaring the two it asks for is enough: models,
transforms and datasets work; nms, roi_align and `torchvision.io`'s decoders do not. Where the operators load, nothing
is declared.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def _operators_load() -> bool:
    spec = find_spec("torchvision")
    if spec is None:
        return True  # the import below says it better
    libraries = [path for folder in spec.submodule_search_locations or () for path in Path(folder).glob("_C.*")]
    try:
        for path in libraries:
            torch.ops.load_library(str(path))
    except OSError:
        return False
    return bool(libraries)


def _declare() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


# Kept in a global: the declarations go when the library object does.
LIBRARY = None if _operators_load() else _declare()

import torchvision  # noqa: E402  it must follow the declarations

__all__ = ["torchvision"]
