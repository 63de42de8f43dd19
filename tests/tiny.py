"""Two problems small enough to be trained in a test: drawn pictures and a table.

monkeypatch.setenv("MENAGERIE_PROBLEMS_DIR", str(folder)); get_settings.cache_clear()
problem = load_problem(write_sketches(folder))
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

SKETCHES = """\
name = "{name}"
description = "A few drawn animals"
classes = ["bird", "cat", "fish", "giraffe", "rabbit", "snake", "spider", "turtle"]

[source]
type = "sketches"
count = {count}

[input]
kind = "image"
size = 32
resize = 32

[model]
backbone = "simple_cnn"

[training]
epochs = {epochs}
learning_rate = 2e-3
batch_size = 32
retrain_epochs = 8

[gate]
min_accuracy = {min_accuracy}
margin = 0.1
min_recent = 12

[drift]
window = 150
min_window = 20

[policy]
min_labels = 48
cooldown_minutes = 5

[validation]
min_per_class = 5
"""

TABLE = """\
name = "{name}"
description = "Three clouds of points"
classes = ["low", "middle", "high"]

[source]
type = "table"
path = {path}
label = "group"

[input]
kind = "tabular"
columns = ["first", "second", "third"]

[model]
backbone = "mlp"

[training]
epochs = {epochs}
learning_rate = 1e-2
batch_size = 32
retrain_epochs = 40

[gate]
min_accuracy = 0.9
margin = 0.05
min_recent = 12

[drift]
window = 100
min_window = 20

[policy]
accuracy_floor = 0.8
min_labels = 48
cooldown_minutes = 0
"""


def write_sketches(
    folder: Path, name: str = "tiny", count: int = 320, epochs: int = 6, min_accuracy: float = 0.3
) -> str:
    """Write `<name>.toml` of a problem with `count` drawn pictures, 32 x 32 to the network; its name.

    The defaults reach a golden accuracy of about 0.5 in a second or two, chance being 0.125.
    """
    text = SKETCHES.format(name=name, count=count, epochs=epochs, min_accuracy=min_accuracy)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return name


def write_table(folder: Path, name: str = "tiny-table", rows: int = 300, epochs: int = 12) -> str:
    """Write `<name>.csv`, three well separated clouds of points, and `<name>.toml` that learns them; its name."""
    random = np.random.default_rng(0)
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["first", "second", "third", "group"])
        for number in range(rows):
            group = number % 3
            point = random.normal(loc=(5.0 * group, -5.0 * group, 100.0))
            table.writerow([*(f"{value:.6f}" for value in point), ("low", "middle", "high")[group]])
    text = TABLE.format(name=name, path=json.dumps(str(path)), epochs=epochs)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return name
