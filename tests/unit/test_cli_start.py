"""The `menagerie` command: what it prints, how it fails. `tests/unit/test_layers.py` holds what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from menagerie.cli import main


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


@pytest.mark.parametrize("command", ["data", "status", "rollback"])
def test_an_unknown_problem_is_one_line_on_stderr(command, capsys):
    assert main([command, "dragons"]) == 2
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


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
