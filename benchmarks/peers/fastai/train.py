"""fastai's `fine_tune` as its documents write it: `python train.py JOB EPOCHS`; its last line is JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

try:
    import torchvision
except RuntimeError:
    # The wheel's compiled operators need CUDA libraries; beside a CPU-only torch two declarations let it be imported.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # carries fine_tune
from fastai.data.transforms import FuncSplitter
from fastai.metrics import BalancedAccuracy, accuracy
from fastai.torch_core import set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.core import imagenet_stats
from fastai.vision.data import CategoryBlock, DataBlock, DataLoaders, ImageBlock
from fastai.vision.learner import default_split, model_meta, vision_learner
from safetensors.torch import load_file
from torch import nn

CUT = {"mobilenet_v2": 1, "resnet18": -2}  # where the body of a torchvision network ends


class Clock(Callback):
    """What the evaluation after every epoch takes, so that it can be left out."""

    seconds = 0.0

    def before_validate(self) -> None:
        """It begins."""
        self.began = time.monotonic()

    def after_validate(self) -> None:
        """It ends."""
        self.seconds += time.monotonic() - self.began


def build_loaders(job: dict[str, Any]) -> DataLoaders:
    """Presizing on the processor, then fastai's default augmentation in batches."""
    labels, test = dict([*job["train"], *job["test"]]), {path for path, _ in job["test"]}
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=job["classes"])),
        get_y=labels.get,
        splitter=FuncSplitter(test.__contains__),
        item_tfms=Resize(job["resize"]),
        batch_tfms=aug_transforms(size=job["size"]),
    )
    return block.dataloaders(list(labels))


def build_learner(job: dict[str, Any], loaders: DataLoaders) -> Learner:
    """fastai's own head on the body of a torchvision network with the job's weights."""

    def arch(pretrained: bool) -> nn.Module:
        network: nn.Module = getattr(torchvision.models, job["backbone"])(weights=None)
        network.load_state_dict(load_file(job["weights"]))
        return network

    # What fastai knows of an architecture; `vision_learner` drops its own argument `cut`.
    model_meta[arch] = {"cut": CUT[job["backbone"]], "split": default_split, "stats": imagenet_stats}
    return vision_learner(loaders, arch, metrics=[accuracy, BalancedAccuracy()])


def main() -> None:
    """One epoch of the head, then EPOCHS of everything; the test pictures are evaluated after each."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    set_seed(0)
    learner, clock = build_learner(job, build_loaders(job)), Clock()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(int(sys.argv[2]), cbs=clock)
    found = [tuple(values[2:4]) for values in learner.recorder.values]  # after the two losses
    for epoch, (right, _) in enumerate(found, start=1):
        print(f"  epoch {epoch}: accuracy {right:.4f}")
    best, balanced = max(found)
    print(json.dumps({"accuracy": best, "balanced_accuracy": balanced, "evaluation_seconds": clock.seconds}))


if __name__ == "__main__":
    main()
