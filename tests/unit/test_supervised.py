"""The supervisor's configuration, as the supervisor reads it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from deployments.local import supervised
from menagerie.settings import get_settings

SAY = [sys.executable, "-c", "import os; print(os.environ.get('BENTOML_HOME'))"]


@pytest.mark.parametrize("theirs", [None, "/somewhere/else"])
def test_the_service_keeps_its_counters_apart_unless_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str | None
):
    home = tmp_path / "a home with blanks, 'quotes\""
    monkeypatch.setenv("MENAGERIE_HOME", str(home))
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    if theirs:
        monkeypatch.setenv("BENTOML_HOME", theirs)
    get_settings.cache_clear()
    supervised.folder(get_settings()).mkdir(parents=True)
    file = tmp_path / "supervisord.conf"
    file.write_text(supervised.configuration(get_settings(), tmp_path), encoding="utf-8")
    options = ServerOptions()
    options.realize(["--configuration", str(file)])
    commands = {group.name: shlex.split(group.process_configs[0].command) for group in options.process_group_configs}
    found = {}
    for name, command in commands.items():
        before = command[: command.index(sys.executable)]  # what is put before the program sets its environment
        done = subprocess.run([*before, *SAY], env=dict(os.environ), capture_output=True, text=True, check=True)
        found[name] = done.stdout.strip()
    others = str(theirs)  # or None: BentoML's own, where `promote` puts its Bentos
    assert found.pop("service") == (theirs or str(home / "bentoml"))
    assert set(found.values()) == {others}
