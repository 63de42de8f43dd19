"""Inputs that the thread which runs their batch reads as well: two hand-overs between threads less for each.

Only what is light goes this way. Whatever takes longer is prepared before it is queued, and holds up nobody's batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from menagerie.inference.predictor import Answer, Input, Keep, Predictor
from menagerie.pictures import PictureStore
from menagerie.records import new_id

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Unread:
    """An input as it was sent, for the version it is queued for."""

    raw: bytes
    client: str
    began: float  # of time.perf_counter
    id: str = field(default_factory=new_id)


def read_and_answer(
    predictor: Predictor, items: Sequence[Input | Unread], keep: Keep, pictures: PictureStore
) -> list[Answer | Exception]:
    """As `Predictor.answer`, where some are still to be read.

    Returns:
        an answer for each item, in order; the refusal of one that cannot be taken, which leaves no prediction behind.
    """

    def read(item: Input | Unread) -> Input:
        if isinstance(item, Input):
            return item
        return predictor.prepare(item.raw, item.client, pictures, item.began, item.id)

    return answer_each(predictor, items, read, keep, pictures)


def answer_each(
    predictor: Predictor, items: Sequence[T], read: Callable[[T], Input], keep: Keep, pictures: PictureStore
) -> list[Answer | Exception]:
    """`Predictor.answer` for what can be read, all in one batch; for each of the others why it cannot, in its place."""
    found: list[Input | Exception] = []
    for item in items:
        try:
            found.append(read(item))
        except Exception as error:  # whatever it is, it belongs to this one alone
            found.append(error)
    inputs = [one for one in found if isinstance(one, Input)]
    answers = iter(predictor.answer(inputs, keep, pictures) if inputs else [])
    return [next(answers) if isinstance(one, Input) else one for one in found]
