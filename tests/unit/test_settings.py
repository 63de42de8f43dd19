"""Settings: read from the environment, refused by name, and documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from menagerie.cli import settings_table
from menagerie.errors import ConfigurationError
from menagerie.settings import PREFIX, Settings, get_settings

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_table_is_what_the_code_says():
    documented = [line for line in (ROOT / "docs/settings.md").read_text().splitlines() if line.startswith("|")]
    assert documented == settings_table().splitlines(), "write it anew: menagerie settings --markdown"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name):
    row = next(line for line in settings_table().splitlines() if f"`{PREFIX}{name.upper()}`" in line)
    assert row.split("|")[3].strip()


def test_lists_are_written_with_commas(monkeypatch):
    monkeypatch.setenv("MENAGERIE_PROBLEMS", "sketches, pets,")
    assert get_settings().problems == ("sketches", "pets")


def test_what_is_not_set_lies_under_home(home):
    settings = get_settings()
    assert settings.tracking_uri == f"sqlite:///{home}/mlflow.db"
    assert settings.journal_url == f"sqlite:///{home}/journal.db"
    assert settings.releases_url == f"file://{home}/releases"


def test_a_relative_home_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENAGERIE_HOME", "here")
    assert get_settings().home == tmp_path / "here"


def test_an_unknown_variable_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("MENAGERIE_PROBLEM", "pets")
    with pytest.raises(ConfigurationError, match=r"unknown setting MENAGERIE_PROBLEM\b"):
        get_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MENAGERIE_SERVICE_PORT", "0"),
        ("MENAGERIE_SERVICE_PORT", "65536"),
        ("MENAGERIE_QUORUM", "1"),
        ("MENAGERIE_BATCH_MAX", "many"),
        ("MENAGERIE_KEEP_PICTURES", "some"),
        ("MENAGERIE_ADMIN_KEY", "short"),
        ("MENAGERIE_REQUEST_SECONDS", "0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        get_settings()


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        get_settings().quorum = 9
