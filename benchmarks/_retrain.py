"""A retraining with newly labelled inputs up to its registered version, in a process of its own, without Prefect.

`python -m benchmarks._retrain prepare PROBLEM COUNT` trains and registers a champion in this `MENAGERIE_HOME` and
stores COUNT labelled pictures as feedback would; `python -m benchmarks._retrain learn PROBLEM`, which is what is
timed, learns from them and registers a version.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from menagerie import building
from menagerie.artefact import sha256
from menagerie.data import Dataset, extend, prepare
from menagerie.data.feedback import split_of_label
from menagerie.errors import MenagerieError
from menagerie.images import open_picture, resize, to_jpeg
from menagerie.problems import Problem, load_problem
from menagerie.records import ModelRef, Row, now
from menagerie.settings import get_settings
from menagerie.tracking import runs, versions
from menagerie.trunks import Start

ROOT = Path(__file__).resolve().parents[1]


def crown(problem: Problem, count: int) -> None:
    """Register a champion, and store labelled pictures that it has not seen."""
    dataset = prepare(problem)
    versions.set_alias(problem, "champion", _register(dataset, "train", None).version)
    folder = get_settings().home / "labelled"
    folder.mkdir()
    rows = [asdict(row) for row in labelled(dataset, count, folder)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")


def labelled(dataset: Dataset, count: int, folder: Path) -> list[Row]:
    """Training pictures as another camera may have taken them: mirrored, closer, darker."""
    random = np.random.default_rng(0)
    rows = []
    for index in random.choice(dataset.of("train"), count, replace=False):
        picture = open_picture(Path(dataset.manifest.rows[index].path).read_bytes())
        height, width = picture.shape[:2]
        left, top = random.uniform(0, 0.2, 2) * (width, height)
        box = (left, top, left + 0.8 * width, top + 0.8 * height)
        closer = resize(np.ascontiguousarray(picture[:, ::-1]), (width, height), box)
        path = folder / f"{index}.jpg"
        path.write_bytes(to_jpeg((closer * 0.8).astype(np.uint8)))
        sha, label = sha256(path), dataset.manifest.rows[index].label
        added = now().isoformat(timespec="seconds")
        rows.append(Row(str(path), sha, sha, label, split_of_label(sha), "feedback", "live", added))
    return rows


def learn(problem: Problem) -> ModelRef:
    """What the flow `retrain` does before it promotes."""
    home = get_settings().home
    rows = [Row(**row) for row in json.loads((home / "labelled" / "rows.json").read_text(encoding="utf-8"))]
    dataset = extend(prepare(problem), rows, labels_until=len(rows))
    champion = versions.version_of(problem, "champion")
    assert champion is not None, "prepare has registered one"
    return _register(dataset, "retrain", Start(*versions.download(problem, champion, home / "cache" / "versions")))


def _register(dataset: Dataset, kind: runs.RunKind, start: Start | None) -> ModelRef:
    commit = building.git_commit(ROOT)
    run_id = runs.start_run(dataset, kind, commit)
    folder = get_settings().home / "built" / kind
    built = building.make(dataset, folder, run_id=run_id, git_commit=commit, start=start)
    runs.log_results(run_id, built.artefact.manifest.metrics, [])
    ref = versions.register(dataset.problem, built.artefact, built.weights)
    runs.finish_run(run_id)
    return ref


def main() -> None:
    """Parse and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("prepare", "learn"):
        step = steps.add_parser(name)
        step.add_argument("problem")
        if name == "prepare":
            step.add_argument("count", type=int)
    given = parser.parse_args()
    try:
        problem = load_problem(given.problem)
        if given.step == "prepare":
            crown(problem, given.count)
        else:
            print(f"  version {learn(problem).version} of {problem.registered_model}")
    except MenagerieError as error:
        sys.exit(f"{given.problem}: {error}")


if __name__ == "__main__":
    main()
