"""labels ─► dataset ─► train ─► challenger ─► promote or canary; started by `menagerie.retrain.requested`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prefect import flow, get_run_logger, task

from flows.canary import canary
from flows.events import announce_decision
from flows.life import living, retraining_of
from flows.monitor import champion_of
from flows.promote import promote
from flows.train import learn, prepare_data
from menagerie.data.feedback import Gathered, gather_labelled
from menagerie.journal import open_journal, set_aside
from menagerie.monitoring.approval import approve, approved_by
from menagerie.monitoring.situation import LOOK_BACK, alarm_is_known, came_to_nothing, keep_more, keep_next
from menagerie.pictures import open_pictures
from menagerie.problems import Problem, load_problem
from menagerie.records import Action, Decision, new_id, now
from menagerie.settings import get_settings
from menagerie.tracking import versions
from menagerie.trunks import Start, last_layer


@flow(name="retrain", flow_run_name="retrain-{problem}")
def retrain(
    problem: str = "sketches",
    reason: str = "asked for by hand",
    decision_id: str | None = None,
    approved: bool = False,
) -> dict[str, str | bool]:
    """Mix labelled journaled inputs into the data, go on from the champion, judge on golden and recent, release if
    better. A decision that waits for an approval is let through by `approved`, or by `menagerie approve` before."""
    loaded = load_problem(problem)
    log = get_run_logger()
    asked = ask(loaded, reason, decision_id, approved)
    if asked is None:
        champion, _ = champion_of(loaded)
        reason = f"decision {decision_id} was not approved, or its labels have been looked at since"
        return {"promoted": False, "version": champion.version, "reason": reason}
    log.info("%s (decision %s)", asked.reason, asked.id)
    with living(retraining_of(asked.id)):
        try:
            return learn_anew(loaded, asked)
        except BaseException as error:  # also one that was cancelled; of one that was killed `check` tells
            open_journal().add_decision(came_to_nothing(asked, f"The retraining failed: {error!r}"))
            raise


def learn_anew(problem: Problem, asked: Decision) -> dict[str, str | bool]:
    """From the labels to a new champion, or to a decision that says why there is none."""
    labelled = collect_labels(problem)
    if not labelled.rows:
        return _conclude(problem, labelled, asked, f"Nothing to learn from: {_missing(labelled)}")
    get_run_logger().info("%d labelled inputs (%s)", len(labelled.rows), _missing(labelled))
    problem = keeping(problem)
    dataset = prepare_data(problem, labelled)
    learn(dataset, kind="retrain", start=champion_to_go_on_from(problem))
    outcome = (canary if problem.canary.use else promote)(problem.name, after_drift=asked.alarm)
    version, by = str(outcome["version"]), str(outcome.get("refused_by", "")) or None
    if outcome["promoted"]:
        return _conclude(problem, labelled, asked, f"Version {version} was promoted", version=version, promoted=True)
    reason = f"Version {version} was {'refused' if by else 'not promoted'}: {outcome['reason']}."
    if labels_help := bool(outcome.get("needs_labels")):
        reason += f" Another retraining begins with {problem.policy.min_labels} labels that this one did not look at."
    gave_up = bool(outcome.get("gave_up")) and problem.training.head == "logistic"
    if gave_up:
        keep = problem.training.keep
        reason += f" It keeps {keep_more(keep):.3g} of the old head instead of {keep:.3g}."
    return _conclude(
        problem, labelled, asked, reason, version=version, refused_by=by, gave_up=gave_up, labels_help=labels_help
    )


def keeping(problem: Problem) -> Problem:
    """The problem, with more of the old head kept where the retraining before gave up too much of what was known."""
    if problem.training.head != "logistic":
        return problem
    champion, _ = champion_of(problem)
    decisions = open_journal().decisions(problem.name, limit=LOOK_BACK)
    keep = keep_next(decisions, champion.version, problem.training.keep)
    if keep != problem.training.keep:
        get_run_logger().info("keeping %.3g of the old head: the retraining before gave up too much", keep)
    return problem.model_copy(update={"training": problem.training.model_copy(update={"keep": keep})})


def ask(problem: Problem, reason: str, decision_id: str | None, approved: bool) -> Decision | None:
    """The decision that this retraining answers; what a person asks for is kept as one. None where it still waits for
    an approval, or another retraining has looked at its labels since: runs may queue up."""
    journal = open_journal()
    decisions = journal.decisions(problem.name, limit=LOOK_BACK)
    known = next((one for one in decisions if one.id == decision_id), None)
    if known is not None and known.action == "retrain":
        if any("judged_until" in one.figures and one.at > known.at for one in decisions):
            get_run_logger().warning("decision %s: a retraining has looked at its labels since", known.id)
            return None
        return known
    if known is not None and known.action == "approve":
        if approved and approved_by(decisions) is None:
            approve(journal, known.id, who="a parameter of the flow")
        by = approved_by(journal.decisions(problem.name, limit=LOOK_BACK))
        if by is None:
            get_run_logger().warning("decision %s waits: `menagerie approve %s` lets it through", known.id, known.id)
            return None
        asked = replace(known, id=new_id(), at=now(), action="retrain", reason=f"{by} approved: {known.reason}")
    else:
        champion, _ = champion_of(problem)
        asked = Decision(problem.name, "retrain", reason, version=champion.version, figures={"by_hand": True})
    journal.add_decision(asked)
    return asked


@task(task_run_name="champion of {problem.name}", retries=1, persist_result=False)
def champion_to_go_on_from(problem: Problem) -> Start | None:
    """None, to start anew, where the champion is another network than the problem now names, or takes other inputs.

    What the network first learned from counts by the name of its weights file."""
    champion, artefact = champion_of(problem)
    manifest = artefact.manifest
    model = problem.model
    now = (problem.classes, model.backbone, Path(model.weights).name, model.mirrored, problem.input)
    known = (manifest.classes, manifest.backbone, manifest.weights, manifest.mirrored, manifest.input)
    bare = problem.training.head == "logistic" and not manifest.forms  # made before trunks could be taken out
    if bare or known != now:
        get_run_logger().warning("version %s has other classes, network or inputs: starting anew", champion.version)
        return None
    folder = get_settings().home / "cache" / "versions"
    start = Start(*versions.download(problem, champion, folder), version=champion.version)
    if problem.training.head == "network" and len(last_layer(start.weights)[1]) != len(problem.classes):
        get_run_logger().warning("version %s tells subclasses apart, a network does not: starting anew", start.version)
        return None
    return start


@task(task_run_name="labels of {problem.name}", retries=1, persist_result=False)
def collect_labels(problem: Problem) -> Gathered:
    """Every label that counts, with the input it belongs to."""
    journal = open_journal()
    excluded = set_aside(journal, problem.name)
    labelled = journal.labelled(problem.name, quorum=get_settings().quorum, excluded=excluded)
    pictures = open_pictures()
    return gather_labelled(labelled, problem.classes, lambda sha: pictures.path(problem.name, sha))


def _missing(labelled: Gathered) -> str:
    kept = f"{labelled.not_kept} labelled inputs were not stored (the setting keep_pictures)"
    return f"{kept}, {labelled.no_class} labels name no class"


def _conclude(
    problem: Problem,
    labelled: Gathered,
    asked: Decision,
    reason: str,
    *,
    version: str | None = None,
    promoted: bool = False,
    refused_by: str | None = None,
    gave_up: bool = False,
    labels_help: bool = False,
) -> dict[str, str | bool]:
    """Every retraining ends in a decision. The labels it looked at have been judged: they start no other one, also
    when the version that learnt from them is rolled back. Refused while an alarm stands, it wants others."""
    champion, _ = champion_of(problem)
    journal = open_journal()
    alarm = not promoted and alarm_is_known(journal.decisions(problem.name, limit=LOOK_BACK), champion.version)
    figures = {"judged_until": labelled.until, "promoted": promoted, "not_kept": labelled.not_kept}
    figures |= {"made": version, "asked_by": asked.id, "refused_by": refused_by}
    figures |= {"gave_up": gave_up, "keep": problem.training.keep}
    action: Action = "ask-for-labels" if alarm and labels_help else "nothing"
    decision = Decision(problem.name, action, reason, version=champion.version, figures=figures, alarm=alarm)
    journal.add_decision(decision)
    announce_decision(decision)
    get_run_logger().info(reason)
    return {"promoted": promoted, "version": champion.version, "reason": reason}
