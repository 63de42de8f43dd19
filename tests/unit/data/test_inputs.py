"""Several arrays read as one, of which only what is asked for is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from menagerie.data.inputs import Inputs

WHOLE = np.random.default_rng(0).integers(0, 256, (9, 2, 3), np.uint8)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    np.save(tmp_path / "first.npy", WHOLE[:5])
    return Inputs(Inputs(np.load(tmp_path / "first.npy", mmap_mode="r"), WHOLE[5:5]), WHOLE[5:8], WHOLE[8:])


@pytest.mark.parametrize("rows", [[0, 1], [5, 6], [8], [7, 0, 8, 4, 5, 0], list(range(9)), []])
def test_rows_are_those_of_one_array(inputs, rows):
    wanted = np.array(rows, np.intp)
    np.testing.assert_array_equal(inputs[wanted], WHOLE[wanted])
    assert inputs[wanted].dtype == WHOLE.dtype


def test_one_row_has_no_axis_of_its_own(inputs):
    for row in (0, 4, np.intp(5), 8):
        np.testing.assert_array_equal(inputs[row], WHOLE[row])


def test_its_shape_is_that_of_one_array(inputs):
    assert (len(inputs), inputs.shape, inputs.dtype) == (9, WHOLE.shape, WHOLE.dtype)


@pytest.mark.parametrize("rows", [9, -1, np.array([0, 9]), np.array([-1, 3])])
def test_a_row_that_is_not_there_is_an_error(inputs, rows):
    with pytest.raises(IndexError, match="were asked for, of 9"):
        inputs[rows]


@pytest.mark.parametrize("rows", [[0, 2], [3], [], [3, 3, 1]])
def test_of_some_rows_they_are_counted(inputs, rows):
    some = np.array([6, 0, 4, 8])
    wanted = np.array(rows, np.intp)
    for chosen in (Inputs(inputs, rows=some), Inputs(WHOLE, rows=some), Inputs(WHOLE[:5], WHOLE[5:], rows=some)):
        np.testing.assert_array_equal(chosen[wanted], WHOLE[some[wanted]])
        assert (len(chosen), chosen.shape, chosen.dtype) == (4, (4, 2, 3), WHOLE.dtype)
        np.testing.assert_array_equal(chosen[1], WHOLE[0])
        with pytest.raises(IndexError, match="rows 4 to 4 were asked for, of 4"):
            chosen[4]


def test_what_was_read_may_be_written_to(inputs):
    inputs[np.array([0, 6])][:] = 0
    np.testing.assert_array_equal(inputs[np.arange(9)], WHOLE)
