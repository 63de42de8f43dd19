"""Inputs that the thread which runs their batch reads as well: two hand-overs between threads less for each.

Only what is light goes this way. Whatever takes longer is prepared before it is queued, and holds up nobody's batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from menagerie.inference.predictor import Answer, Input, Keep, Predictor
from menagerie.pictures import PictureStore


@dataclass(frozen=True, eq=False)
class Unread:
    """An input as it was sent, for the version it is queued for."""

    raw: bytes
    client: str
    began: float  # of time.perf_counter


def read_and_answer(
    predictor: Predictor, items: Sequence[Input | Unread], keep: Keep, pictures: PictureStore
) -> list[Answer | Exception]:
    """As `Predictor.answer`, where some are still to be read.

    Returns:
        an answer for each item, in order; the refusal of one that cannot be taken, which leaves no prediction behind.
    """
    read = [_read(predictor, item, pictures) if isinstance(item, Unread) else item for item in items]
    inputs = [one for one in read if isinstance(one, Input)]
    answers = iter(predictor.answer(inputs, keep, pictures) if inputs else [])
    return [next(answers) if isinstance(one, Input) else one for one in read]


def _read(predictor: Predictor, item: Unread, pictures: PictureStore) -> Input | Exception:
    try:
        return predictor.prepare(item.raw, item.client, pictures, item.began)
    except Exception as error:  # whatever it is, it belongs to this one alone
        return error
