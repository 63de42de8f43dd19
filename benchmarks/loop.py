"""The whole loop, timed: the drill in an empty home and on ports of its own, and its figures.

Run `python -m benchmarks.loop [--problem pets]`; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._processes import ROOT, end_on_sigterm, environment, free_port, nothing_left

FIGURES = (
    "problem",
    "pictures_to_alarm",
    "retrainings",
    "labels_to_served_seconds",
    "failed_requests",
    "accuracy",
    "needless_alarms",
    "bad_challenger_refused",
    "bad_promotion_rolled_back",
)
MOMENTS = ("before", "during", "after")  # of the accuracy


def drill(problem: str, home: Path) -> tuple[dict[str, Any], int]:
    """Run it in a home; its figures and how it ended.

    Raises:
        SystemExit: it could not begin.
    """
    ports = {f"{name}_port": str(free_port()) for name in ("service", "prefect", "mlflow")}
    variables = environment(home, str(home), **ports)
    command = [sys.executable, "-m", "deployments.local.drill", "--problem", problem]
    last = ""
    with (
        nothing_left(str(home)),
        subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            last = line if line.startswith("{") else last
    if not last:
        sys.exit(f"the drill on {problem} ended with {running.returncode} and no figures")
    return json.loads(last), running.returncode


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The last line. What a drill that failed did not come to is None."""
    figures = {name: found.get(name) for name in FIGURES}
    return {**figures, "accuracy": {moment: found["accuracy"].get(moment) for moment in MOMENTS}}


def main() -> int:
    """Run and print; 0 when every step of the drill did what it should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--problem", default="sketches")
    parser.add_argument("--home", type=Path, help="an empty folder that is kept, instead of a temporary one")
    given = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as name:
        home = (given.home or Path(name) / "home").resolve()
        found, status = drill(given.problem, home)
        print(json.dumps(summary(found)), flush=True)
        return status


if __name__ == "__main__":
    sys.exit(main())
