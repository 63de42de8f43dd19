"""Rows of numbers: strict about what comes in, exact about what is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from menagerie.errors import MalformedRequest, UnusableInput
from menagerie.kinds import make_kind
from menagerie.kinds.tabular import TabularKind
from menagerie.problems import TabularInput

COLUMNS = ("cap", "stem", "größe")


@pytest.fixture
def kind() -> TabularKind:
    return TabularKind(TabularInput(kind="tabular", columns=COLUMNS))


def row(**changed: object) -> bytes:
    return json.dumps({"cap": 1, "stem": 2.5, "größe": -3e-5} | changed).encode()


def test_it_is_what_the_problem_describes():
    kind = make_kind(TabularInput(kind="tabular", columns=COLUMNS))
    assert isinstance(kind, TabularKind)
    assert (kind.shape, kind.dtype, tuple(kind.statistics)) == ((3,), "float32", COLUMNS)


def test_a_row_is_taken_in_the_order_of_the_columns(kind):
    example = kind.decode('{"größe": 7, "stem": 2.5, "cap": -1}'.encode())
    assert example.dtype == np.float32
    assert example.tolist() == [-1, 2.5, 7]
    assert kind.preprocess(example).tolist() == kind.describe(example).tolist() == [-1, 2.5, 7]
    assert kind.preprocess(example).dtype == kind.describe(example).dtype == np.float32
    assert kind.near_key(example) is None


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"cap": 1, "stem": 2}', "'größe' is missing"),
        (b"{}", "'cap' is missing"),
        (row(colour=3), "no column 'colour'"),
        (row(stem="2"), "'stem' is not a number"),
        (row(stem=None), "'stem' is not a number"),
        (row(stem=True), "'stem' is not a number"),
        (row(stem=[1]), "'stem' is not a number"),
        (row(stem={"a": 1}), "'stem' is not a number"),
        (row(stem=float("nan")), "'stem' is not finite"),
        (row(stem=float("inf")), "'stem' is not finite"),
        (row(stem=float("-inf")), "'stem' is not finite"),
        (b'{"cap": 1e999, "stem": 1, "gr\xc3\xb6\xc3\x9fe": 1}', "'cap' is not finite"),
        (row(cap=1e39), "'cap' is not finite, or too large"),
        (row(cap=0).replace(b"0", b"9" * 5000, 1), "'cap' is not finite"),
        (b'{"cap": 1, "cap": 1, "stem": 2, "gr\xc3\xb6\xc3\x9fe": 3}', "'cap' is there twice"),
        (row(stem={}).replace(b"{}", b'{"a": 1, "a": 2}'), "'a' is there twice"),
        (b"[1, 2, 3]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_unusable_rows_are_refused_by_name(kind, raw, says):
    with pytest.raises(UnusableInput, match=says):
        kind.decode(raw)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{'cap': 1}", b'{"cap": 1,}', b"\xff\xfe", b'{"cap": 1} {}', b"[" * 100_000, b'{"a":' * 5000, b"x"],
)
def test_what_is_not_json_is_malformed(kind, raw):
    with pytest.raises(MalformedRequest, match="not JSON"):
        kind.decode(raw)


def test_what_is_stored_reads_back_exactly(kind):
    rng = np.random.default_rng(0)
    for exponent in (-40, -3, 0, 20, 37):
        example = (rng.normal(size=3) * 10.0**exponent).astype(np.float32)
        raw, suffix = kind.store(example)
        assert suffix == ".json"
        assert kind.decode(raw).tobytes() == example.tobytes()


def test_the_same_row_is_stored_as_the_same_bytes(kind):
    raw, _ = kind.store(kind.decode('{"größe": 0.1, "stem": 2e0, "cap": 10}'.encode()))
    assert raw == '{"cap":10.0,"stem":2.0,"größe":0.1}'.encode()
    assert kind.store(kind.decode(raw))[0] == raw
