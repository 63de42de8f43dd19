"""Whether a challenger may replace the champion: a pure function of what both answered on the same inputs.

A challenger wins by paired tests: of the inputs on which exactly one of the two is right, how likely would it have so
many if a coin decided? A higher accuracy alone may be luck. `docs/judging.md` says why each limit is what it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from menagerie.evaluation.comparison import difference_interval, discordant, mcnemar
from menagerie.evaluation.evidence import Costs, Evidence, Pair, Scores, both_right
from menagerie.evaluation.metrics import ece
from menagerie.evaluation.slices import SliceResult
from menagerie.problems import Gate
from menagerie.records import Check, ModelRef, Verdict

CALIBRATED_DRAWS = 200


def judge(
    problem: str,
    challenger: ModelRef,
    champion: ModelRef | None,
    evidence: Evidence,
    *,
    classes: Sequence[str],
    after_drift: bool,
    gate: Gate,
) -> Verdict:
    """The verdict, with a check for everything that was asked.

    A first model has to reach the floors and keep the budgets. Another one must besides be no worse than the champion
    on golden, on no slice and on corrupted inputs, and better on recent; with fewer than `gate.min_recent` recent
    labels it must be better on golden instead, or, after drift, wait for them.

    Raises:
        ValueError: the champion's scores are missing, or are of other rows than the challenger's.
    """
    golden, recent = evidence.golden, evidence.recent
    checks = [*_floors(golden[0], recent, classes, gate), _calibration(golden[0], gate)]
    checks += [*_costs(evidence.costs, gate), evidence.released, *_robustness(evidence, champion is not None, gate)]
    waiting = False
    if champion is not None:
        checks += [_another(challenger, champion), *_no_worse(golden, gate), *_slices(evidence, gate)]
        rows = len(recent[0]) if recent else 0
        if recent and rows >= gate.min_recent:
            checks.append(_better("recent better", recent, gate))
        elif after_drift:
            waiting = all(check.passed for check in checks)
            missing = gate.min_recent - rows
            checks.append(
                Check("recent labels", False, rows, gate.min_recent, f"{missing} more are needed after drift")
            )
        else:
            checks.append(_better("golden better", golden, gate))
    return Verdict(problem, challenger, champion, tuple(checks), needs_labels=waiting)


def _floors(golden: Scores, recent: Pair | None, classes: Sequence[str], gate: Gate) -> list[Check]:
    scores = [golden, *([recent[0]] if recent else [])]
    finite = all(bool(score.usable.all()) for score in scores)
    distinct = len(np.unique(golden.predicted))
    accuracy = golden.accuracy
    recalls = golden.recalls()
    worst = min(recalls, key=recalls.__getitem__, default=None)
    recall = recalls[worst] if worst is not None else 0.0
    unseen = [name for index, name in enumerate(classes) if index not in recalls]
    detail = f"lowest for {classes[worst]}" if worst is not None else "the golden set is empty"
    if unseen:
        detail += f"; not in the golden set: {', '.join(unseen)}"
    return [
        Check("finite outputs", finite, str(finite).lower(), "true", "every probability is a finite number"),
        Check("answers vary", distinct >= 2, distinct, 2, "different classes predicted on golden"),
        Check("golden accuracy", accuracy >= gate.min_accuracy, accuracy, gate.min_accuracy, f"{len(golden)} inputs"),
        Check("recall of every class", recall >= gate.min_recall, recall, gate.min_recall, detail),
    ]


def _calibration(golden: Scores, gate: Gate) -> Check:
    """The error of few inputs is large by chance, so one that a calibrated model might have is borne."""
    usable = golden.usable
    truth, probabilities = golden.truth[usable], golden.probabilities[usable]
    error = ece(truth, probabilities) if len(truth) else 1.0
    limit, detail = gate.max_calibration_error, "expected calibration error on golden"
    if error > limit and len(truth) and (chance := _calibrated_error(probabilities, gate.significance)) > limit:
        limit, detail = chance, f"{detail}; a calibrated model might have so much on {len(truth)} inputs"
    return Check("calibration", error <= limit, error, limit, detail)


def _calibrated_error(probabilities: NDArray[np.float32], significance: float) -> float:
    """The calibration error that a model with these probabilities exceeds with the chance `significance` if they are
    right: the truth is drawn from them (J. Bröcker and L. Smith, "Increasing the Reliability of Reliability Diagrams",
    2007)."""
    random = np.random.default_rng(0)
    rising = probabilities.cumsum(axis=1)[:, :-1]  # without the last, a draw above the sum is of the last class
    errors = [
        ece((random.random((len(rising), 1)) > rising).sum(axis=1), probabilities) for _ in range(CALIBRATED_DRAWS)
    ]
    return float(np.quantile(errors, 1 - significance))


def _costs(costs: tuple[Costs, Costs | None], gate: Gate) -> list[Check]:
    new, old = costs
    speed = "of the processor for one input, in batches of 8 on one thread"
    size = "the files that are served"
    if old is not None:
        speed += f"; the champion takes {old.milliseconds:.2f}"
        size += f"; the champion's have {old.megabytes:.2f}"
    fast, small = new.milliseconds <= gate.max_milliseconds, new.megabytes <= gate.max_megabytes
    return [
        Check("milliseconds", fast, new.milliseconds, gate.max_milliseconds, speed),
        Check("megabytes", small, new.megabytes, gate.max_megabytes, size),
    ]


def _robustness(evidence: Evidence, has_champion: bool, gate: Gate) -> list[Check]:
    """The limit is the champion's figure less the margin, or less two standard errors of the paired difference where
    so few inputs cannot tell the margin from chance."""
    if evidence.corrupted is None:
        return []
    new, old = (None if right is None else np.mean(list(right.values()), axis=0) for right in evidence.corrupted)
    assert new is not None
    figure = float(new.mean())
    detail = f"accuracy over {len(evidence.corrupted[0])} corruptions of {len(new)} golden inputs"
    if not has_champion:
        return [Check("robustness", bool(np.isfinite(figure)), figure, "a number", detail)]
    if old is None or old.shape != new.shape:
        raise ValueError("there is a champion, but no answers of it to the same corrupted inputs")
    difference = new - old
    error = float(difference.std(ddof=1) / len(difference) ** 0.5) if len(difference) > 1 else 1.0
    borne = max(gate.robustness_margin, 2 * error)
    detail += f"; the champion reaches {old.mean():.4f}, {borne:.4f} less is borne"
    return [Check("robustness", bool(difference.mean() >= -borne), figure, float(old.mean()) - borne, detail)]


def _another(challenger: ModelRef, champion: ModelRef) -> Check:
    differs = challenger.fingerprint != champion.fingerprint
    detail = "" if differs else f"the challenger is the very artefact that serves, version {champion.version}"
    return Check("another artefact", differs, challenger.fingerprint, champion.fingerprint, detail)


def _no_worse(golden: Pair, gate: Gate) -> list[Check]:
    better, worse = discordant(*both_right(golden))
    difference = (better - worse) / max(len(golden[0]), 1)
    p_value = mcnemar(worse, better)
    told = f"accuracy difference, {_interval(better, worse, len(golden[0]))}"
    detail = f"the challenger alone right on {better}, the champion alone on {worse}"
    return [
        Check("golden within margin", difference >= -gate.margin, difference, -gate.margin, told),
        Check("golden not worse", p_value >= gate.significance, p_value, gate.significance, f"McNemar p; {detail}"),
    ]


def _slices(evidence: Evidence, gate: Gate) -> list[Check]:
    """A summary, then a line for each slice that is worse."""
    results = evidence.slice_results()
    if not results:
        return [Check("slices no worse", True, 0, 0, f"no slice has {gate.min_slice} inputs")]
    lost = [one for one in results if one.p_value < gate.significance]
    detail = f"slices looked at: {len(results)}; nearest to worse: {_told(results[0])}, p {results[0].p_value:.3g}"
    return [
        Check("slices no worse", not lost, len(lost), 0, detail),
        *(
            Check(f"slice {one.name}", False, one.p_value, gate.significance, f"McNemar p; {_told(one)}")
            for one in lost
        ),
    ]


def _told(one: SliceResult) -> str:
    return f"{one.name}, {one.challenger:.4f} against {one.champion:.4f} of {one.count} inputs"


def _better(name: str, pair: Pair, gate: Gate) -> Check:
    better, worse = discordant(*both_right(pair))
    p_value = mcnemar(better, worse)
    detail = (
        f"McNemar p; the challenger alone right on {better} of {len(pair[0])}, the champion alone on {worse}; "
        f"accuracy difference {(better - worse) / max(len(pair[0]), 1):+.4f}, {_interval(better, worse, len(pair[0]))}"
    )
    return Check(name, p_value < gate.significance, p_value, gate.significance, detail)


def _interval(better: int, worse: int, total: int) -> str:
    low, high = difference_interval(better, worse, total)
    return f"95 % interval {low:+.4f} to {high:+.4f}"
