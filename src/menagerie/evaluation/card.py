"""The model card of a champion (M. Mitchell et al., "Model Cards for Model Reporting", 2019), made from what was
recorded, never written by hand: a page of Markdown, its pictures named beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from menagerie.artefact import Form
from menagerie.evaluation.card_facts import CardFacts, Part, interval, limits_of, percent
from menagerie.evaluation.verdict import table, verdict_table
from menagerie.records import Verdict


def card_path(home: Path, problem: str, version: str) -> Path:
    """Where the card of a version lies."""
    return home / "cards" / problem / f"{version}.md"


def model_card(facts: CardFacts) -> str:
    """The card as Markdown. Intervals are Wilson's, of 95 %."""
    title = f"# {facts.problem.name}, version {facts.version}"
    sections = [
        _what(facts),
        ["## Intended use", "", *_use(facts)],
        ["## Limits", "", *(f"- {limit}" for limit in limits_of(facts))],
        ["## Figures on the golden test set", "", *_figures(facts)],
        ["## Certainty of an answer", "", *_certainty(facts)],
        ["## Slices", "", *_parts(facts.slices, "slice")],
        ["## Corrupted pictures", "", *_parts(facts.corruptions, "corruption and level")],
        ["## Forms that were tried", "", *_forms(facts)],
        ["## Data", "", *_data(facts)],
        ["## Verdict", "", *_verdict(facts.verdict)],
        ["## How to make it again", "", *_again(facts)],
        [f"![{name.rpartition('.')[0]}]({name})" for name in facts.pictures],
    ]
    return "\n\n".join([title, *("\n".join(section) for section in sections if section)]) + "\n"


def _what(facts: CardFacts) -> list[str]:
    manifest = facts.manifest
    shape = f"{manifest.input.size} x {manifest.input.size} pixels" if manifest.input.kind == "image" else "a row"
    return [
        f"{facts.problem.description or facts.problem.name}. {len(manifest.classes)} classes, {manifest.backbone} on "
        f"{shape}, served by {manifest.runtime} in {manifest.precision}. Made {manifest.created_at:%Y-%m-%d}; artefact "
        f"`{facts.fingerprint}`."
    ]


def _use(facts: CardFacts) -> list[str]:
    sources = ", ".join(sorted(facts.sources))
    return [
        f"To tell apart {', '.join(facts.problem.classes)} in inputs like those it was made from ({sources}). It was "
        "judged on nothing else, and is no ground for decisions that cannot be undone."
    ]


def _figures(facts: CardFacts) -> list[str]:
    counts, shown = facts.confusion, facts.manifest.metrics
    names = ("balanced_accuracy", "precision", "recall", "f1", "roc_auc", "ece")
    rows = [[name.replace("_", " "), f"{shown[f'golden_{name}']:.4f}"] for name in names if f"golden_{name}" in shown]
    overall = Part("all", int(counts.trace()), int(counts.sum()))
    recalls = [Part(name, int(counts[i, i]), int(counts[i].sum())) for i, name in enumerate(facts.problem.classes)]
    return [
        f"Accuracy {percent(overall.accuracy)} ({interval(overall)}), {overall.right} of {overall.total} right.",
        "",
        *([table(["figure", "value"], rows)] if rows else []),
        "",
        "Recall of each class:",
        "",
        *_parts(recalls, "class"),
    ]


def _certainty(facts: CardFacts) -> list[str]:
    manifest, spec, shown = facts.manifest, facts.problem.confidence, facts.manifest.metrics
    lines = ["- Probabilities are " + ("as the network gives them." if not manifest.calibration else "scaled: ")]
    if manifest.calibration:
        lines[0] += ", ".join(f"{name} {value:.3f}" for name, value in manifest.calibration.items()) + "."
    thresholds = manifest.thresholds or {}
    if "set" in thresholds:
        lines.append(f"- A class belongs to the prediction set from a probability of {thresholds['set']:.4g} on.")
    if "ood" in thresholds:
        lines.append(
            f"- An input counts as unknown above a score of {thresholds['ood']:.4g}, set for at most "
            f"{percent(spec.unknown_alarms)} of known inputs and {percent(spec.unknown_alarms_mild)} of mildly changed "
            "ones."
        )
    if (coverage := shown.get("golden_set_coverage")) is not None:
        size = shown.get("golden_set_size", float("nan"))
        lines.append(
            f"- Prediction sets hold the truth for {percent(coverage)} of golden (wanted: {percent(spec.coverage)}), "
            f"with {size:.2f} classes on average."
        )
    if (alarms := shown.get("golden_unknown_alarms")) is not None:
        lines.append(
            f"- {percent(alarms)} of golden are called unknown (wanted: at most {percent(spec.unknown_alarms)})."
        )
    return lines


def _parts(parts: Sequence[Part], kind: str) -> list[str]:
    rows = [[part.name, str(part.total), percent(part.accuracy), interval(part)] for part in parts]
    return [table([kind, "inputs", "right", "95 % interval"], rows)] if rows else ["None were measured."]


def _forms(facts: CardFacts) -> list[str]:
    def row(form: Form) -> list[str]:
        accuracy = "" if form.accuracy is None else percent(form.accuracy)
        speeds = ["" if value is None else f"{value:.2f}" for value in (form.milliseconds_1, form.milliseconds)]
        return [form.runtime, form.precision, *speeds, accuracy, "yes" if form.accepted else "no", form.reason]

    head = ["runtime", "precision", "ms, one input", "ms, of a batch of 8", "validation", "accepted", "reason"]
    return [table(head, [row(form) for form in facts.manifest.forms])] if facts.manifest.forms else ["One: fp32."]


def _data(facts: CardFacts) -> list[str]:
    rows = [[name, *(str(row.get(name, 0)) for row in facts.counts.values())] for name in facts.problem.classes]
    rows.append(["all", *(str(sum(row.values())) for row in facts.counts.values())])
    sources = ", ".join(f"{name} ({count})" for name, count in sorted(facts.sources.items()))
    lines = [f"Dataset `{facts.manifest.data_fingerprint}`, from {sources}.", ""]
    lines += [table(["class", *facts.counts], rows), ""]
    found = [f"- **{one.level}** {one.check} ({one.count}): {one.message}" for one in facts.findings]
    return lines + (found or ["Nothing was found wrong with it."])


def _verdict(verdict: Verdict) -> list[str]:
    against = f"against version {verdict.champion.version}" if verdict.champion else "as the first version"
    head = f"`{verdict.id}` of {verdict.at:%Y-%m-%d %H:%M} UTC, {against}."
    return [head, "", verdict_table(verdict.checks)]


def _again(facts: CardFacts) -> list[str]:
    commit, run_id = facts.manifest.git_commit, facts.manifest.run_id
    command = f"menagerie reproduce {facts.problem.name} {facts.version}"
    return [f"Commit `{commit}`, MLflow run `{run_id}`, seed {facts.problem.training.seed}: `{command}`"]
