"""What happened in a drill, in order: rows for its table, marks and estimates for its picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deployments.local.timeline import Timeline
from deployments.local.traffic import Answer, Tally


@dataclass(frozen=True)
class Mark:
    """Something that happened at a time, in seconds of `time.time`."""

    at: float
    what: str


@dataclass(frozen=True)
class Estimated:
    """Accuracy as it was estimated without labels, and how far the 95 % interval of the loss reaches below and above
    it."""

    at: float
    value: float
    below: float
    above: float


@dataclass(frozen=True)
class Line:
    """One step in the table. `pictures` had been answered when it ended."""

    step: str
    expected: str
    found: str
    pictures: int
    seconds: float


@dataclass
class Record:
    """Everything a drill keeps of itself."""

    say: Timeline
    tallies: list[Tally] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    estimates: list[Estimated] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    needless_alarms: int = 0

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(tally.failed for tally in self.tallies)

    def answers(self) -> list[Answer]:
        """All of them, in the order in which they came."""
        return sorted((one for tally in self.tallies for one in tally.answers), key=lambda one: one.at)

    def truths(self) -> dict[str, str]:
        """The true label of each prediction, by its id."""
        return {key: truth for tally in self.tallies for key, truth in tally.ids}

    def mark(self, what: str) -> None:
        """Something happens now."""
        self.marks.append(Mark(time.time(), what))

    @contextmanager
    def step(self, title: str, expected: str) -> Iterator[Callable[[str], None]]:
        """A step of the drill; gives the function that says what was found. One that fails has its line too."""
        found: list[str] = []
        began = time.monotonic()
        try:
            with self.say.step(title) as note:

                def tell(text: str) -> None:
                    found.append(text)
                    note(text)

                yield tell
        except BaseException as error:
            found.append(f"FAILED: {error}")
            raise
        finally:
            line = Line(title, expected, "; ".join(found), len(self.answers()), time.monotonic() - began)
            self.lines.append(line)
