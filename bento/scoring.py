"""The bodies of MLflow's scoring protocol, turned into the raw inputs that every other request brings.

An example is a picture in base64, or what the model's file itself takes: uint8 [size, size, 3]. For a table it is a
row, by column or in the order of the columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento.requests import IMAGES_MAX, check_members, parse_json, picture
from menagerie.errors import MalformedRequest, TooLarge, UnusableInput
from menagerie.images import to_png
from menagerie.problems import ImageInput, TabularInput

WHOLE = ("input", "image")  # names under which an example may stand alone: the model's input, a column of pictures


def scored_inputs(body: bytes, spec: ImageInput | TabularInput) -> list[bytes]:
    """The examples of a body, as the bytes that the problem's kind decodes.

    Raises:
        MalformedRequest, UnsupportedMedia, TooLarge, UnusableInput: says what is wrong.
    """
    forms = check_members(parse_json(body), (*FORMS, "params"))
    if forms.pop("params", None):
        raise MalformedRequest("params must be empty: there is nothing about a model here that a request may set")
    if len(forms) != 1:
        raise MalformedRequest(f"send exactly one of {', '.join(FORMS)}")
    ((form, value),) = forms.items()
    examples = FORMS[form](value)
    if not examples:
        raise MalformedRequest(f"{form} holds no example")
    if len(examples) > IMAGES_MAX:
        raise TooLarge(f"{form} holds {len(examples)} examples; at most {IMAGES_MAX} are taken")
    if isinstance(spec, ImageInput):
        return [_picture_of(_alone(one), spec) for one in examples]
    return [_row_of(one, spec) for one in examples]


def _instances(value: object) -> list[Any]:
    """One example an item."""
    return _list("instances", value)


def _inputs(value: object) -> list[Any]:
    """A tensor, or tensors by name: the first axis counts the examples."""
    if isinstance(value, Mapping):
        return _records(list(value), [_list(f"inputs.{name}", column) for name, column in value.items()])
    return _list("inputs", value)


def _dataframe_records(value: object) -> list[Any]:
    """One object by column an item."""
    rows = _list("dataframe_records", value)
    if not all(isinstance(row, Mapping) for row in rows):
        raise MalformedRequest("dataframe_records must hold objects")
    return rows


def _dataframe_split(value: object) -> list[Any]:
    """`columns`, and `data` by row; an `index` says nothing here."""
    frame = check_members(value, ("columns", "data", "index"), ("columns", "data"))
    columns, rows = _list("columns", frame["columns"]), _list("data", frame["data"])
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) != len(columns):
        raise MalformedRequest("columns must be different names")
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise MalformedRequest(f"data must hold lists of {len(columns)} values")
    return [dict(zip(columns, row, strict=True)) for row in rows]


FORMS: Mapping[str, Callable[[object], list[Any]]] = {
    "instances": _instances,
    "inputs": _inputs,
    "dataframe_records": _dataframe_records,
    "dataframe_split": _dataframe_split,
}


def _records(names: list[str], columns: list[list[Any]]) -> list[Any]:
    if len({len(column) for column in columns}) > 1:
        raise MalformedRequest("inputs must be equally long")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _alone(example: object) -> object:
    """What stands under the one name that means the whole example; else the example itself."""
    if isinstance(example, Mapping) and len(example) == 1 and (name := next(iter(example))) in WHOLE:
        return example[name]
    return example


def _picture_of(example: object, spec: ImageInput) -> bytes:
    """A picture's bytes from base64, or from the model's input.

    Around the latter lie as many pixels as preprocessing cuts away, so that what reaches the model is what was sent.
    """
    if isinstance(example, list):
        border = spec.resize - spec.size
        before = round(border / 2)  # half to even, as preprocessing cuts
        sides = (before, border - before)
        return to_png(np.pad(_pixels(example, spec.size), (sides, sides, (0, 0)), mode="edge"))
    return picture(example)


def _pixels(example: list[Any], size: int) -> NDArray[np.uint8]:
    shape = (size, size, 3)
    try:
        values = np.array(example)
    except (ValueError, OverflowError):  # rows of different lengths; numbers of too many digits
        values = np.array(None)
    if values.shape != shape or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise UnusableInput(f"an example must be base64, or whole numbers from 0 to 255 of the shape {list(shape)}")
    return values.astype(np.uint8)


def _row_of(example: object, spec: TabularInput) -> bytes:
    if isinstance(_alone(example), list):  # else it may be a column of that name
        example = _alone(example)
    if isinstance(example, list):
        if len(example) != len(spec.columns):
            raise UnusableInput(f"a row has {len(example)} values; there are {len(spec.columns)} columns")
        example = dict(zip(spec.columns, example, strict=True))
    return json.dumps(example).encode()


def _list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedRequest(f"{name} must be a list")
    return value
