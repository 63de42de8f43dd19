"""How many inputs may be under way: what is more is refused at once, before anything of it is parsed or read.

So an input that was let in waits for no more than the others that were, whatever else arrives.
"""

from __future__ import annotations

from typing import Self

from menagerie.errors import Overloaded


class Admission:
    """Counts inputs under way; for one event loop.

    Args:
        most: inputs at once. A request of more alone is let in while there is no other.
    """

    def __init__(self, most: int) -> None:
        self.most, self.under_way = most, 0

    def place(self) -> Place:
        """A place for one input, taken by entering it."""
        return Place(self)


class Place:
    """Of one request: held from entering to leaving."""

    def __init__(self, admission: Admission) -> None:
        self._admission, self._held = admission, 0

    def hold(self, count: int) -> None:
        """Be of so many inputs in all.

        Raises:
            Overloaded: there is no room for them.
        """
        admission = self._admission
        others = admission.under_way - self._held
        if others + count > max(admission.most, count):
            raise Overloaded("too many requests are under way; try again later")
        admission.under_way, self._held = others + count, count

    def __enter__(self) -> Self:
        self.hold(1)
        return self

    def __exit__(self, *raised: object) -> None:
        self._admission.under_way -= self._held
