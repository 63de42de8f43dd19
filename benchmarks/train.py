"""Our training of a problem beside the fine-tuning loop that everybody writes, timed in one run.

Ours is timed from a fresh process in an empty home to its end: reading and checking the data, training, export, and
golden accuracy of the exported bytes in the serving runtime. The peer is timed from a fresh process as well, without
its evaluation. Run `python -m benchmarks.train [--problem pets] [--peer-epochs 1]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import _peers
from benchmarks._cold import Cold, timed, train_cold
from benchmarks._processes import end_on_sigterm, environment
from menagerie.errors import MenagerieError
from menagerie.problems import load_problem


def summary(problem: str, ours: Cold, peer: dict[str, float] | None) -> dict[str, Any]:
    """The last line. Accuracies are shares of 1; `ratio` is our seconds over the peer's, null without a peer."""
    return {
        "problem": problem,
        "accuracy": round(ours.result["accuracy"], 4),
        "balanced_accuracy": round(ours.result["balanced_accuracy"], 4),
        "seconds": round(ours.seconds, 2),
        "peer_seconds": round(peer["seconds"], 2) if peer else None,
        "peer_accuracy": round(peer["accuracy"], 4) if peer else None,
        "peer_balanced_accuracy": round(peer["balanced_accuracy"], 4) if peer else None,
        "ratio": round(ours.seconds / peer["seconds"], 4) if peer else None,
    }


def fine_tune(name: str, splits: dict[str, Any], epochs: int, folder: Path) -> dict[str, float]:
    """The peer's accuracies, and its seconds without its evaluation."""
    job = _peers.write_job(folder / "job.json", load_problem(name), splits)
    script = _peers.PEERS / "naive" / "train.py"
    command = [str(_peers.python_of("naive")), str(script), str(job), str(epochs)]
    mark = str(folder / "peer")
    output, seconds = timed(command, environment(folder, mark), mark)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found | {"seconds": seconds - found["evaluation_seconds"]}


def measure(problem: str, epochs: int) -> dict[str, Any]:
    """Ours first, then the peer, which finds the files in the system's memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("ours", flush=True)
        ours = train_cold(problem, folder)
        print(f"  {ours.seconds:.1f} s, accuracy {ours.result['accuracy']:.4f}", flush=True)
        if not epochs:
            return summary(problem, ours, None)
        print(f"peer, epochs: {epochs}", flush=True)
        peer = fine_tune(problem, ours.result, epochs, folder)
        print(f"  {peer['seconds']:.1f} s, accuracy {peer['accuracy']:.4f}", flush=True)
        return summary(problem, ours, peer)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("--problem", default="pets")
    parser.add_argument("--peer-epochs", type=int, default=1, help="0 leaves the peer out (default: %(default)s)")
    given = parser.parse_args()
    end_on_sigterm()
    try:
        if given.peer_epochs:  # before anything is timed: what a peer needs is there
            _peers.weights_of(load_problem(given.problem))
            _peers.python_of("naive")
        print(json.dumps(measure(given.problem, given.peer_epochs)))
    except MenagerieError as error:
        print(f"benchmarks.train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
