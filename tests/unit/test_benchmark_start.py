"""Starting: the benchmark's medians and the memory it reads, and what the supervising process does without."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.start import PATIENCE, Started, pss, start, summary
from deployments.local import processes
from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import ROOT, make_artefact


def test_the_last_line_holds_medians_of_both_ways():
    without = [Started(2.0, 2.0, 1.5, 200.0, 2), Started(1.0, 1.0, 1.0, 100.0, 2), Started(9.0, 9.0, 2.0, 150.0, 2)]
    with_page = [Started(2.0, 6.0, 4.0, 400.0, 3)]
    assert summary("pets", without, with_page) == {
        "problem": "pets",
        "without_page": {"ready_seconds": 2.0, "seconds": 2.0, "cpu_seconds": 1.5, "pss_mb": 150.0, "processes": 2},
        "with_page": {"ready_seconds": 2.0, "seconds": 6.0, "cpu_seconds": 4.0, "pss_mb": 400.0, "processes": 3},
    }


def test_memory_that_is_touched_counts():
    before = pss(os.getpid())
    with mmap.mmap(-1, 50 << 20) as touched:
        touched.write(b"x" * len(touched))
        assert pss(os.getpid()) - before > 45


def test_a_real_service_is_started_looked_at_and_gone(tmp_path: Path):
    artefact = make_artefact(tmp_path / "made")
    journal = Journal(f"sqlite:///{tmp_path / 'journal.db'}", tmp_path / "spool")
    channel = ReleaseChannel(f"file://{tmp_path / 'releases'}", journal)
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    journal.close()
    found = start("sketches", tmp_path, page=False)
    assert 0 < found.ready == found.complete < PATIENCE and found.processes == 2
    assert found.cpu > 0 and found.pss > 60  # MiB: both processes hold an interpreter and libraries
    assert processes.marked(str(tmp_path)) == []


def test_a_service_that_cannot_start_is_said_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match="it does not start"):
        start("sketches", tmp_path, page=False)


def test_the_process_that_supervises_loads_nothing_of_what_serves():
    heavy = {"numpy", "sqlalchemy", "onnxruntime", "openvino", "PIL", "gradio", "pandas", "pydantic_settings"}
    code = f"import sys, bento.service; print(*{heavy!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
