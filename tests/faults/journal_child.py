"""What a process of its own does to a journal: `python -m tests.faults.journal_child VERB URL SPOOL ...`."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from itertools import count, islice
from pathlib import Path

from menagerie.errors import ConflictError, Overloaded
from menagerie.journal import Journal
from menagerie.records import ModelRef, new_id
from menagerie.releases import ReleaseChannel
from tests.unit.journal.samples import prediction, voice


def say(words: object) -> None:
    """One line to whoever started this process."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def record(journal: Journal, number: str) -> None:
    """Record, saying each id once it is kept; SIGKILL right after `number` of them, or go on for ever with 0."""
    for key in islice(iter(new_id, None), int(number) or None):
        if journal.record([prediction(1, id=key)]):
            say(key)
    os.kill(os.getpid(), signal.SIGKILL)


def fill(journal: Journal, limit: str) -> None:
    """Record where no file may grow beyond `limit` bytes until nothing is kept, then try feedback and make room."""
    journal.record([prediction(0)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
    kept = ["p0"]
    refused = 0
    for number in count(1):
        if journal.record([prediction(number)]):
            kept.append(f"p{number}")
        else:
            refused += 1
        if refused == 3:
            break
    heard = 0
    try:
        for heard in range(1000):  # the first may fit into what room there is
            journal.add_feedback(voice("p0", "cat", f"client {heard}"), labels=["cat"])
    except Overloaded as error:
        feedback = error.code
    else:
        feedback = "always added"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = journal.record([prediction(0, id="last")])
    say(
        json.dumps(
            {
                "kept": kept,
                "feedback": feedback,
                "heard": heard,
                "dropped": journal.dropped,
                "spooled": journal.spooled,
                "again": again,
            }
        )
    )
    journal.close()


def promote(journal: Journal, releases: str, version: str) -> None:
    """Promote on generation 0 when a line comes in; say `won` or `lost`."""
    channel = ReleaseChannel(releases, journal)
    say("ready")
    sys.stdin.readline()
    try:
        channel.promote("sketches", ModelRef(version, version * 64), who=version, why="race", expected=0)
    except ConflictError:
        say("lost")
    else:
        say("won")
    journal.close()


if __name__ == "__main__":
    verb, url, spool, *rest = sys.argv[1:]
    busy = 5.0 if verb == "promote" else 0.05
    {"record": record, "fill": fill, "promote": promote}[verb](Journal(url, Path(spool), busy_seconds=busy), *rest)
