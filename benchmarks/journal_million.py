"""A million journaled predictions: how long reading them takes, and how much memory.

Run `python -m benchmarks.journal_million [--rows N] [--folder F]`; the last line is JSON. The journal is made once and
kept in the folder. It is read by a process of its own, as the monitor would: a window over all the time there is
(sampled, with the labels that count), the counts, and figures of each day over every row.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from menagerie.journal import Journal
from menagerie.journal.codec import to_row
from menagerie.journal.schema import feedback, predictions
from menagerie.kinds.image import STATISTICS
from menagerie.problems import load_problem
from menagerie.records import Prediction

ROWS = 1_000_000
DAYS = 30
START = datetime(2026, 1, 1, tzinfo=UTC)
FINGERPRINT = "f" * 64
CLIENTS = 1000
LABELLED_EVERY = 50  # rows; a trusted client labels one of so many
RIGHT = 0.9  # of the labelled
THRESHOLD = 3.0  # of unlikeness
EMBEDDING = 64  # numbers at most, by design
BATCH = 10_000  # rows made at once
SAMPLE = 10_000  # rows of the window


def fill(path: Path, rows: int) -> None:
    """Make a journal of so many predictions, spread evenly over `DAYS`, with labels for some."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    Journal(f"sqlite:///{draft}", path.parent / "spool").close()
    with sqlite3.connect(draft) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-300000")  # KiB: ids are random, so are the places in their index
        for batch in _batches(rows):
            columns = ", ".join(batch[0])
            marks = ", ".join(f":{name}" for name in batch[0])
            connection.executemany(f"INSERT INTO {predictions.name} ({columns}) VALUES ({marks})", batch)
        connection.execute(
            f"INSERT INTO {feedback.name} (prediction_id, label, client, trusted, at, superseded) "
            "SELECT id, CASE WHEN seq % 1000 < :right THEN label ELSE 'none of these' END, 'labeller', 1, at, 0 "
            f"FROM {predictions.name} WHERE seq % :every = 0",
            {"right": 1000 * RIGHT, "every": LABELLED_EVERY},
        )
    connection.close()
    draft.rename(path)


def _batches(rows: int) -> Iterator[list[dict[str, Any]]]:
    generator = np.random.default_rng(0)
    classes = load_problem("breeds").classes
    clients = [sha256(str(number).encode()).hexdigest() for number in range(CLIENTS)]
    step = timedelta(days=DAYS) / rows
    for first in range(0, rows, BATCH):
        count = min(BATCH, rows - first)
        ids = generator.bytes(16 * count)
        inputs = generator.bytes(32 * count)
        statistics = generator.normal(size=(count, len(STATISTICS))).astype(np.float32)
        embeddings = generator.normal(size=(count, EMBEDDING)).astype(np.float16)
        probabilities = generator.dirichlet(np.full(len(classes), 0.1), count).astype(np.float32)
        scores = generator.gamma(2, size=count)
        batch = []
        for place in range(count):
            prediction = Prediction(
                id=ids[16 * place : 16 * (place + 1)].hex(),
                at=START + (first + place) * step,
                problem="breeds",
                version="1",
                fingerprint=FINGERPRINT,
                variant="champion",
                input_sha256=inputs[32 * place : 32 * (place + 1)].hex(),
                label=classes[int(probabilities[place].argmax())],
                statistics=statistics[place],
                embedding=embeddings[place],
                probabilities=probabilities[place],
                latency_ms=5.0,
                client=clients[(first + place) % CLIENTS],
                at_random=place % 10 == 0,
                unlikeness=float(scores[place]),
            )
            row = to_row(prediction)
            batch.append(row | {"at": f"{prediction.at:%Y-%m-%d %H:%M:%S.%f}", "erased": False})
        yield batch


def read(path: Path) -> dict[str, Any]:
    """Read it all in this process: what was found, the seconds of each part, and the most memory it took."""
    seconds: dict[str, float] = {}
    began, busy = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        seconds[name] = round(time.perf_counter() - began - sum(seconds.values()), 3)

    journal = Journal(f"sqlite:///{path}", path.parent / "spool")
    window = journal.window("breeds", FINGERPRINT, since=START, until=START + timedelta(days=DAYS), sample=SAMPLE)
    lap("window")
    counts = journal.counts("breeds")
    lap("counts")
    days = journal.series(
        "breeds",
        since=START,
        until=START + timedelta(days=DAYS),
        bucket=timedelta(days=1),
        thresholds={FINGERPRINT: THRESHOLD},
    )
    lap("series")
    journal.close()
    rows = sum(day.predictions for day in days)
    return {
        "rows": rows,
        "window": len(window),
        "total": window.total,
        "counted": counts["predictions"],
        "labelled": counts["labelled"],
        "accuracy": sum(day.right for day in days) / sum(day.labelled for day in days),
        "unlike": sum(day.unlike for day in days) / sum(day.scored for day in days),
        "mean_confidence": sum(day.mean_confidence * day.predictions for day in days) / rows,
        "columns": [
            round(float(one), 6) for one in np.sum([day.statistics * day.predictions for day in days], 0) / rows
        ],
        "seconds": seconds,
        "processor_seconds": round(time.process_time() - busy, 3),
        "million_rows_seconds": round(sum(seconds.values()), 3),
        "million_rows_gb": round(_peak_bytes() / 1e9, 3),
    }


def _peak_bytes() -> int:
    """Of this process since it began; `ru_maxrss` would hold its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def measure(folder: Path, rows: int = ROWS) -> dict[str, Any]:
    """Read a journal of so many rows in a fresh process; it is made in the folder if it is not there."""
    path = folder.resolve() / f"journal-{rows}.db"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fill(path, rows)
    command = [sys.executable, "-m", "benchmarks.journal_million", "--read", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Reading a journal of a million predictions.")
    parser.add_argument("--rows", type=int, default=ROWS, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path(".menagerie/benchmarks"), help="(default: %(default)s)")
    parser.add_argument("--read", type=Path, help="read this journal in this very process")
    arguments = parser.parse_args()
    print(json.dumps(read(arguments.read) if arguments.read else measure(arguments.folder, arguments.rows)))


if __name__ == "__main__":
    main()
