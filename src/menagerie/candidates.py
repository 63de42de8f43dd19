"""Which forms of a model there are, how fast and how right each is, and which of them may be served.

Speed orders them and the budget lets them in; both are measured here and now, on the bytes that are served.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import MODEL, MODEL_INT8, Form
from menagerie.hardware import BF16, VNNI, has_any
from menagerie.inference.runtime import Runtime, open_runtime
from menagerie.models.top import Top, attach_top
from menagerie.problems import Problem

BATCH = 8
SAMPLES = 7
SAMPLE_SECONDS = 0.01  # at least: below it the clock and the caches speak
WORTH = 0.95  # of the portable form's time: less is a difference that a second measurement may turn round

VNNI_HERE = VNNI if has_any(VNNI) else ()  # with it int8 keeps all bits of its weights, and needs it wherever it runs

PORTABLE = Form(runtime="onnxruntime", precision="fp32", file=MODEL, accepted=True, reason="the reference")
FORMS = (
    PORTABLE,
    Form(runtime="openvino", precision="fp32", file=MODEL, accepted=False, reason=""),
    Form(runtime="openvino", precision="bf16", file=MODEL, requires=BF16, accepted=False, reason=""),
    Form(runtime="openvino", precision="int8", file=MODEL_INT8, requires=VNNI_HERE, accepted=False, reason=""),
    Form(runtime="onnxruntime", precision="int8", file=MODEL_INT8, requires=VNNI_HERE, accepted=False, reason=""),
    # Every processor that has bf16 has VNNI.
    Form(runtime="openvino", precision="int8_bf16", file=MODEL_INT8, requires=BF16, accepted=False, reason=""),
)

QUICK = FORMS[2]  # as a rule the fastest that needs no quantising first


def quick_form(problem: Problem) -> Form:
    """The form on whose features a logistic head is soonest fitted."""
    wanted = problem.training.head == "logistic" and QUICK.precision in problem.export.precisions
    return QUICK if wanted and has_any(QUICK.requires) else PORTABLE


def try_forms(
    problem: Problem,
    trunk: Path,
    top: Top,
    inputs: NDArray[Any],
    accuracy: Callable[[Form], float],
    folder: Path,
    lead: str | None = None,
) -> tuple[Form, ...]:
    """Write `model.onnx` and, where it is served, `model.int8.onnx`; measure every form of them.

    Args:
        problem: Names the precisions to try, and the accuracy that may be lost to the portable form, fp32 in ONNX
            Runtime, which is always accepted.
        trunk: As `export_trunk` writes it.
        top: What stands on it.
        inputs: Training inputs [n, *shape], n >= 1: for the ranges of int8, and to measure speed with.
        accuracy: How right a form is, by its file in the folder.
        folder: Where the files are written.
        lead: Name of the form that counts as the fastest, whatever is measured: to make a version again.

    Returns:
        the accepted forms, fastest first, then the others, each with its reason. An int8 that is no faster than fp32
        is not accepted, which saves its file, and its accuracy is not measured.
    """
    wanted = [form for form in FORMS if set(form.precision.split("_")) <= set(problem.export.precisions)]
    opened = _open_all(wanted, trunk, top, inputs, folder)
    runtimes = {form: runtime for form, runtime in opened.items() if not isinstance(runtime, str)}
    refused = [_refused(form, reason) for form, reason in opened.items() if isinstance(reason, str)]
    timed = _timed(runtimes, inputs)
    cost = {form.name: 0.0 if form.name == lead else form.milliseconds or 0.0 for form in timed}
    scored: list[Form] = []
    for form in timed:
        if form.file == MODEL_INT8 and not _int8_is_faster(timed, scored, cost):
            scored.append(_refused(form, "no faster than fp32"))
            continue
        reference = scored[0].accuracy if scored else None
        scored.append(judged(form, accuracy(form), reference, problem.export.budget))
    accepted = [form for form in scored if form.accepted]
    if not _int8_is_faster(accepted, accepted, cost):
        (folder / MODEL_INT8).unlink(missing_ok=True)
        dull = [form for form in accepted if form.file == MODEL_INT8]
        scored = [_refused(form, "no faster than fp32") if form in dull else form for form in scored]
    return (*_in_order(scored, cost), *(form for form in scored if not form.accepted), *refused)


def _in_order(scored: list[Form], cost: Mapping[str, float]) -> list[Form]:
    """The accepted ones, fastest first; of those that are hardly slower than the fastest, the first of `FORMS` leads,
    so that a second measurement does not choose another."""
    accepted = sorted((form for form in scored if form.accepted), key=lambda form: _rank(form, cost))
    names, limit = [form.name for form in FORMS], cost[accepted[0].name] / WORTH
    near = [form for form in accepted if cost[form.name] <= limit]
    first = min(near, key=lambda form: names.index(form.name))
    return [first, *(form for form in accepted if form is not first)]


def _open_all(
    forms: list[Form], trunk: Path, top: Top, inputs: NDArray[Any], folder: Path
) -> dict[Form, Runtime | str]:
    """Write the files and load each form; why not, where that fails for any but the portable one."""
    attach_top(trunk, top, folder / MODEL)
    (folder / MODEL_INT8).unlink(missing_ok=True)
    failure = ""
    if any(form.file == MODEL_INT8 for form in forms):
        failure = _write_int8(trunk, top, inputs, folder / MODEL_INT8)
    opened: dict[Form, Runtime | str] = {}
    for form in forms:
        if not has_any(form.requires):
            opened[form] = f"this processor has no {' or '.join(form.requires)}"
        elif form.file == MODEL_INT8 and failure:
            opened[form] = failure
        else:
            opened[form] = _open(form, folder, inputs[:1])
    return opened


def _write_int8(trunk: Path, top: Top, inputs: NDArray[Any], path: Path) -> str:
    """Empty, or why it could not be done."""
    from menagerie.models.quantise import quantise  # here: it loads much, and some problems do without

    with tempfile.TemporaryDirectory() as folder:
        quantised = Path(folder) / "trunk.onnx"
        try:
            quantise(trunk, inputs, quantised, bits=8 if VNNI_HERE else 7)
            attach_top(quantised, top, path)
        except Exception as error:  # whatever a graph does to the quantiser, fp32 is there
            return f"cannot be quantised: {_short(error)}"
    return ""


def _open(form: Form, folder: Path, inputs: NDArray[Any]) -> Runtime | str:
    try:
        runtime = open_runtime(form.runtime, form.precision, folder / form.file)
        runtime.warm(inputs)
    except Exception as error:
        if form == PORTABLE:
            raise
        return f"does not run: {_short(error)}"
    return runtime


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _timed(runtimes: Mapping[Form, Runtime], inputs: NDArray[Any]) -> list[Form]:
    """The forms with their speed: medians of samples taken in turns, so that what disturbs disturbs all."""
    eight = inputs[np.arange(BATCH) % len(inputs)]
    times: dict[tuple[Form, int], list[float]] = {(form, n): [] for form in runtimes for n in (1, BATCH)}
    repeats = {(form, n): _repeats(runtimes[form], eight[:n]) for form, n in times}
    for _ in range(SAMPLES):
        for (form, n), found in times.items():
            found.append(_seconds(runtimes[form], eight[:n], repeats[form, n]) * 1000 / n)
    return [
        form.model_copy(
            update={
                "milliseconds": round(float(np.median(times[form, BATCH])), 4),
                "milliseconds_1": round(float(np.median(times[form, 1])), 4),
            }
        )
        for form in runtimes
    ]


def _seconds(runtime: Runtime, inputs: NDArray[Any], repeats: int) -> float:
    """Of the processor, for one run: what other processes do meanwhile does not count."""
    began = time.process_time()
    for _ in range(repeats):
        runtime(inputs)
    return (time.process_time() - began) / repeats


def _repeats(runtime: Runtime, inputs: NDArray[Any]) -> int:
    _seconds(runtime, inputs, 1)
    return max(1, int(SAMPLE_SECONDS / max(_seconds(runtime, inputs, 1), 1e-6)))


def judged(form: Form, accuracy: float, reference: float | None, budget: float) -> Form:
    """A form with its validation accuracy, accepted where it loses no more than the budget against the reference."""
    if reference is None:  # the portable form itself
        return form.model_copy(update={"accuracy": accuracy})
    lost = reference - accuracy
    reason = f"{100 * lost:.2f} points lost, {100 * budget:.2f} allowed"
    return form.model_copy(update={"accuracy": accuracy, "accepted": lost <= budget + 1e-9, "reason": reason})


def _refused(form: Form, reason: str) -> Form:
    return form.model_copy(update={"accepted": False, "reason": reason})


def _rank(form: Form, cost: Mapping[str, float]) -> float:
    return cost[form.name] * (WORTH if form.name == PORTABLE.name else 1)


def _int8_is_faster(forms: list[Form], against: list[Form], cost: Mapping[str, float]) -> bool:
    """Whether an int8 among the forms is faster than every accepted fp32 it is held against."""
    limit = min(_rank(form, cost) for form in against if form.precision == "fp32" and form.accepted)
    return any(form.file == MODEL_INT8 and _rank(form, cost) < limit for form in forms)
