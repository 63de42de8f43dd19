"""The `menagerie` command: what it prints, how it fails. `tests/unit/test_layers.py` holds what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from menagerie.cli import main
from menagerie.records import ModelRef
from menagerie.releases import open_channel
from tests.helpers import make_artefact


def test_help_loads_no_library_at_all():
    code = (
        "import sys\nfrom menagerie.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('LOADED', *{'numpy', 'pydantic', 'sqlalchemy', 'PIL', 'torch', 'mlflow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rollback" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_problems_lists_those_shipped(capsys):
    assert main(["problems"]) == 0
    assert {"sketches", "pets"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}


def test_settings_shows_values_but_no_key(capsys, monkeypatch, home):
    monkeypatch.setenv("MENAGERIE_ADMIN_KEY", "a key nobody may see")
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert str(home) in printed
    assert "nobody" not in printed


@pytest.mark.parametrize(
    ("command", "more"),
    [("data", []), ("status", []), ("rollback", []), ("card", []), ("explain", [__file__]), ("reproduce", ["1"])],
)
def test_an_unknown_problem_is_one_line_on_stderr(command, more, capsys):
    assert main([command, "dragons", *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("menagerie: no problem 'dragons'")
    assert captured.err.count("\n") == 1


def test_a_wrong_setting_is_one_line_on_stderr(monkeypatch, capsys):
    monkeypatch.setenv("MENAGERIE_QUORUM", "1")
    assert main(["settings"]) == 2
    assert "MENAGERIE_QUORUM" in capsys.readouterr().err


def test_status_of_a_new_home(capsys):
    assert main(["status", "sketches"]) == 0
    printed = capsys.readouterr().out
    assert "sketches: generation 0" in printed
    assert "0 predictions" in printed


def test_the_card_of_what_serves_is_printed(home, capsys):
    assert main(["card", "sketches"]) == 2
    assert "sketches has no champion" in capsys.readouterr().err
    artefact = make_artefact(home / "artefact")
    channel = open_channel()
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("4", artefact.fingerprint), who="test", why="test", expected=0)
    assert main(["card", "sketches"]) == 2
    assert "version 4 of sketches has no card here" in capsys.readouterr().err
    card = home / "cards" / "sketches" / "4.md"
    card.parent.mkdir(parents=True)
    card.write_text("# sketches, version 4\n", encoding="utf-8")
    assert main(["card", "sketches"]) == 0
    assert capsys.readouterr().out == "# sketches, version 4\n"


def test_a_picture_that_is_not_there_is_one_line_on_stderr(capsys):
    assert main(["explain", "sketches", "nowhere.jpg"]) == 2
    assert capsys.readouterr().err == "menagerie: nowhere.jpg: No such file or directory\n"


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
