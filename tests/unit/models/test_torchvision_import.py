"""torchvision imports with or without its compiled operators; where they load, nothing is added to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REAL = """
import menagerie.models.torchvision_import as module
import torch, torchvision
from torchvision import datasets
from torchvision.transforms import v2
assert module.torchvision is torchvision
network = torchvision.models.resnet18(weights=None).eval()
with torch.inference_mode():
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
assert v2.Resize(8)(torch.zeros(3, 16, 24, dtype=torch.uint8)).shape == (3, 8, 12)
assert datasets.OxfordIIITPet
assert (module.LIBRARY is None) == torchvision.extension._has_ops()
import gc; gc.collect()
assert hasattr(torch.ops.torchvision, "nms"), "the declarations were lost"
"""

LOADING = """
import torch
loaded = []
torch.ops.load_library = loaded.append
import menagerie.models.torchvision_import as module
assert module.torchvision.IS_FAKE
assert [name.endswith("_C.so") for name in loaded] == [True], loaded
assert module.LIBRARY is None
assert not hasattr(torch.ops.torchvision, "nms"), "something was declared"
"""


def run(code: str, path: Path | None = None) -> None:
    search = os.pathsep.join(filter(None, (str(path or ""), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": search}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_models_transforms_and_datasets_import():
    run(REAL)


def test_operators_that_load_are_left_alone(tmp_path: Path):
    fake = tmp_path / "torchvision"
    fake.mkdir()
    (fake / "__init__.py").write_text("IS_FAKE = True\n")
    (fake / "_C.so").touch()
    run(LOADING, tmp_path)


def test_without_torchvision_the_import_says_so(tmp_path: Path):
    run(
        "import sys; sys.modules['torchvision'] = None\n"
        "try: import menagerie.models.torchvision_import\n"
        "except ModuleNotFoundError as error: assert 'torchvision' in str(error)\n"
        "else: raise SystemExit('it was imported')"
    )
