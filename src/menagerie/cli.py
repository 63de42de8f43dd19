"""The `menagerie` command. What a subcommand needs is imported when it runs: `menagerie --help` loads nothing heavy."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from menagerie.errors import ConfigurationError, MenagerieError

Command = Callable[[argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. 0, 1 where it says no, or 2 after an error that is told in one line on stderr."""
    given = _parser().parse_args(arguments)
    run: Command = given.run
    try:
        return run(given) or 0
    except MenagerieError as error:
        print(f"menagerie: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="menagerie", description="Keeps an image classifier right.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Command) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    command("problems", _problems)
    command("settings", _settings).add_argument("--markdown", action="store_true", help="as in docs/settings.md")
    command("data", _data).add_argument("problem")
    command("status", _status).add_argument("problem", nargs="?", help="default: those of the setting `problems`")
    rollback = command("rollback", _rollback)
    rollback.add_argument("problem")
    rollback.add_argument("--why", default="asked for on the command line", help="kept in the history")
    withdraw = command("withdraw", _withdraw)
    withdraw.add_argument("problem")
    withdraw.add_argument("--why", default="asked for on the command line", help="kept in the history")
    queue = command("queue", _queue)
    queue.add_argument("problem")
    file = queue.add_mutually_exclusive_group(required=True)
    file.add_argument("--export", type=Path, metavar="FILE.csv", help="write it, with a column to fill in")
    file.add_argument("--import", type=Path, metavar="FILE.csv", dest="labels", help="take the labels filled in")
    queue.add_argument("--count", type=int, default=100, help="inputs to write (default: %(default)s)")
    command("clients", _clients).add_argument("problem")
    command("approve", _approve).add_argument("decision", help="the id of a decision that waits")
    why = command("why", _why)
    why.add_argument("prediction", help="the `prediction_id` of an answer")
    why.add_argument("--json", action="store_true", help="as one JSON object")
    command("report", _report).add_argument("problem")
    command("card", _card).add_argument("problem")
    explain = command("explain", _explain)
    explain.add_argument("problem")
    explain.add_argument("picture", type=Path)
    explain.add_argument("--version", default="champion", help="a number or an alias (default: champion)")
    explain.add_argument("--output", type=Path, help="a PNG (default: <picture>-explained.png, here)")
    reproduce = command("reproduce", _reproduce)
    reproduce.add_argument("problem")
    reproduce.add_argument("version", help="a number or an alias")
    reproduce.add_argument("--any-commit", action="store_true", help="go on where another commit is checked out")
    return parser


def settings_table() -> str:
    """The table of `docs/settings.md`: every setting with its default and what it is for."""
    from menagerie.settings import PREFIX, Settings

    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        shown = "" if default in (None, "") else f"`{default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def _problems(_: argparse.Namespace) -> None:
    """list the problems there are"""
    from menagerie.problems import available, load_problem

    for name, path in sorted(available().items()):
        problem = load_problem(name)
        print(f"{name:<16}{problem.kind:<9}{len(problem.classes):>4} classes  {problem.description}  ({path})")


def _settings(given: argparse.Namespace) -> None:
    """list the settings, their defaults and their values"""
    from menagerie.settings import PREFIX, get_settings

    if given.markdown:
        print(settings_table(), end="")
        return
    for name, value in get_settings().model_dump().items():
        shown = "set" if name == "admin_key" and value else value
        print(f"{PREFIX}{name.upper():<22}{', '.join(shown) if isinstance(shown, tuple) else shown}")


def _data(given: argparse.Namespace) -> None:
    """make a problem's dataset ready and validate it"""
    from menagerie.data import prepare
    from menagerie.problems import load_problem

    print(prepare(load_problem(given.problem)).report.markdown())


def _status(given: argparse.Namespace) -> None:
    """what serves, what the journal holds and what was decided last"""
    from menagerie.journal import open_journal, set_aside
    from menagerie.problems import load_problem
    from menagerie.releases import open_channel
    from menagerie.settings import get_settings

    journal, channel = open_journal(), open_channel()
    for name in [given.problem] if given.problem else get_settings().problems:
        load_problem(name)  # refuses a name that does not exist
        pointer = channel.pointer(name)
        share = f" {pointer.percent} %" if pointer.percent else ""
        print(f"{name}: generation {pointer.generation}, {pointer.mode}{share}")
        for role in ("champion", "previous", "challenger"):
            ref = getattr(pointer, role)
            print(f"  {role:<11}{f'version {ref.version} ({ref.fingerprint[:12]})' if ref else 'none'}")
        counts = journal.counts(name, excluded=set_aside(journal, name))
        print("  journal    " + ", ".join(f"{counts[what]} {what}" for what in ("predictions", "feedback", "labelled")))
        last = next(iter(journal.decisions(name, limit=1)), None)
        print("  decision   " + (f"{last.at:%Y-%m-%d %H:%M:%S} {last.action}: {last.reason}" if last else "none"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container that gives any number to its user
        return f"user {os.getuid()}"


def _rollback(given: argparse.Namespace) -> None:
    """let the previous model serve again"""
    from menagerie.problems import load_problem
    from menagerie.releases import open_channel

    load_problem(given.problem)
    pointer = open_channel().rollback(given.problem, who=_user(), why=given.why)
    serves = f"version {pointer.champion.version}" if pointer.champion else "nothing"
    print(f"{given.problem}: {serves} serves from generation {pointer.generation} on")


def _withdraw(given: argparse.Namespace) -> None:
    """take all requests away from the challenger; the champion stays"""
    from menagerie.problems import load_problem
    from menagerie.releases import open_channel

    load_problem(given.problem)
    pointer = open_channel().withdraw(given.problem, who=_user(), why=given.why)
    print(f"{given.problem}: the champion alone serves from generation {pointer.generation} on")


def _queue(given: argparse.Namespace) -> None:
    """write what should be labelled next to a CSV file, or take the labels in one"""
    from menagerie.problems import load_problem
    from menagerie.queue_csv import export_queue, import_labels

    problem = load_problem(given.problem)
    if given.labels:
        print(f"{given.labels}: {import_labels(problem, given.labels)}")
    else:
        print(f"{given.export}: {export_queue(problem, given.export, given.count)} inputs to label")


def _clients(given: argparse.Namespace) -> None:
    """list the clients whose labels do not count, and why"""
    from menagerie.journal import open_journal, quarantined
    from menagerie.problems import load_problem

    found = quarantined(open_journal(), load_problem(given.problem).name)
    for one in found:
        print(f"{one.client[:16]}  {one.voices:>6} labels  {one.reason}")
    if not found:
        print(f"no client of {given.problem} is in quarantine")


def _approve(given: argparse.Namespace) -> None:
    """let a retraining go ahead that waits for a person, beyond the daily budget"""
    from menagerie.journal import open_journal
    from menagerie.monitoring.approval import approve

    decision = approve(open_journal(), given.decision, who=_user())
    print(f"{decision.problem}: {decision.reason} The next `check` asks for the retraining.")


def _why(given: argparse.Namespace) -> None:
    """from a prediction back to its model, run, data, commit and label, and to what made that model serve"""
    import json

    from menagerie.why import as_text, trace_back

    found = trace_back(given.prediction)
    print(json.dumps(found, indent=2) if given.json else as_text(found))


def _report(given: argparse.Namespace) -> None:
    """say where the newest drift report is"""
    from menagerie.monitoring.history import reports
    from menagerie.problems import load_problem
    from menagerie.settings import get_settings

    pages = reports(get_settings().home, load_problem(given.problem).name)
    if not pages:
        raise ConfigurationError(f"{given.problem} has no report yet: run `monitor`")
    print(pages[0])


def _card(given: argparse.Namespace) -> None:
    """print the model card of what serves"""
    from menagerie.evaluation.card import card_path
    from menagerie.problems import load_problem
    from menagerie.releases import open_channel
    from menagerie.settings import get_settings

    load_problem(given.problem)
    champion = open_channel().pointer(given.problem).champion
    if champion is None:
        raise ConfigurationError(f"{given.problem} has no champion: train and promote one first")
    path = card_path(get_settings().home, given.problem, champion.version)
    if not path.exists():
        raise ConfigurationError(f"version {champion.version} of {given.problem} has no card here: {path} is missing")
    print(path.read_text(encoding="utf-8"), end="")


def _explain(given: argparse.Namespace) -> None:
    """draw which places of a picture speak for its label"""
    from menagerie.problems import load_problem

    problem, output = load_problem(given.problem), given.output or Path(f"{given.picture.stem}-explained.png")
    try:
        raw = given.picture.read_bytes()
        from menagerie.explained import explain_picture  # slow to load: after what may be refused at once

        explained = explain_picture(problem, given.version, raw)
        output.write_bytes(explained.png)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    print(f"{given.picture}: {explained.label}, {explained.confidence:.1%} (version {explained.version}); see {output}")


def _reproduce(given: argparse.Namespace) -> int:
    """make a version again and say how far the two are apart; 1 where that is too far"""
    from tempfile import TemporaryDirectory

    from menagerie.problems import load_problem

    problem = load_problem(given.problem)
    from menagerie.reproducing import reproduce  # slow to load: after what may be refused at once

    with TemporaryDirectory(prefix="menagerie-") as folder:
        found = reproduce(problem, given.version, Path(folder), any_commit=given.any_commit)
    print(f"{given.problem} {given.version}: {found.why}")
    for one in found.differences:
        limit = "" if one.limit is None else f"  limit {one.limit:.2g}"
        print(f"  {'ok' if one.passed else 'NO':<4}{one.what:<42}{one.figure:.2g}{limit}")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
