"""The fine-tuning loop that everybody writes: `python train.py JOB EPOCHS`; its last line is JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from network import DEVICE, build_network, build_transform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

Batches = DataLoader[tuple[Tensor, Tensor]]


class Pictures(Dataset[tuple[Tensor, int]]):
    """Labelled files, decoded anew each time they are asked for."""

    def __init__(self, items: list[tuple[str, str]], classes: list[str], transform: transforms.Compose) -> None:
        self.items, self.classes, self.transform = items, classes, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), self.classes.index(label)


def train_epoch(network: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer) -> float:
    """All layers, cross entropy; the mean loss."""
    criterion = nn.CrossEntropyLoss()
    network.train()
    total = 0.0
    for pictures, labels in batches:
        optimizer.zero_grad()
        loss = criterion(network(pictures.to(DEVICE)), labels.to(DEVICE))
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


@torch.no_grad()
def evaluate(network: nn.Module, batches: Batches, classes: int) -> tuple[float, float]:
    """Accuracy and balanced accuracy (the mean of the classes' recalls), shares of 1."""
    network.eval()
    right, count = torch.zeros(classes), torch.zeros(classes)
    for pictures, labels in batches:
        hits = (network(pictures.to(DEVICE)).argmax(1).cpu() == labels).float()
        right += torch.bincount(labels, hits, classes)
        count += torch.bincount(labels, minlength=classes)
    return float(right.sum() / count.sum()), float((right / count).mean())


def main() -> None:
    """Train, and evaluate after every epoch; the second is timed, so that it can be left out."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.manual_seed(0)
    transform, workers = build_transform(job), os.cpu_count() or 1
    train, test = (Pictures(job[split], job["classes"], transform) for split in ("train", "test"))
    learn = DataLoader(train, batch_size=32, shuffle=True, num_workers=workers)
    judge = DataLoader(test, batch_size=32, num_workers=workers)
    network = build_network(job)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    found, evaluation = [], 0.0
    for epoch in range(int(sys.argv[2])):
        loss = train_epoch(network, learn, optimizer)
        began = time.monotonic()
        found.append(evaluate(network, judge, len(job["classes"])))
        evaluation += time.monotonic() - began
        print(f"  epoch {epoch + 1}: loss {loss:.4f}, accuracy {found[-1][0]:.4f}", flush=True)
    accuracy, balanced = max(found)
    print(json.dumps({"accuracy": accuracy, "balanced_accuracy": balanced, "evaluation_seconds": evaluation}))


if __name__ == "__main__":
    main()
