"""The hook that forbids skips, tried on small test files of its own."""

from __future__ import annotations

import pytest

TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="by mark")
def test_marked(): pass

def test_called(): pytest.skip("by call")

@pytest.fixture
def absent(): pytest.skip("by fixture")

def test_fixture(absent): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure(): assert False
"""
MODULE = "import pytest; pytest.importorskip('no_such_module_at_all')"


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))

    def run(**files: str) -> pytest.RunResult:
        pytester.makepyfile(**files)
        return pytester.runpytest_subprocess("-p", "tests.no_skip", "-p", "no:cacheprovider")

    return run


def test_a_skip_is_a_failure(run, monkeypatch):
    monkeypatch.setenv("MENAGERIE_NO_SKIP", "1")
    result = run(test_some=TESTS)
    result.assert_outcomes(passed=1, failed=1, errors=2, xfailed=1)
    result.stdout.fnmatch_lines(["*forbids skips*by call*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_skipped_module_is_an_error(run, monkeypatch):
    monkeypatch.setenv("MENAGERIE_NO_SKIP", "1")
    result = run(test_module=MODULE)
    result.assert_outcomes(errors=1)
    assert result.ret != 0


def test_otherwise_skips_stay_skips(run, monkeypatch):
    monkeypatch.delenv("MENAGERIE_NO_SKIP", raising=False)
    result = run(test_some=TESTS, test_module=MODULE)
    result.assert_outcomes(passed=1, skipped=4, xfailed=1)
    assert result.ret == 0
