"""One forward pass, and the proof by the probe."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from menagerie.artefact import MODEL, load_artefact, write_artefact
from menagerie.errors import ArtefactError
from menagerie.inference.runtime import OnnxRuntime, check_probe, load_runtime
from tests.helpers import make_artefact


def test_it_gives_logits_and_an_embedding_for_any_batch(tmp_path):
    runtime = load_runtime(make_artefact(tmp_path / "a"))
    for n in (1, 3):
        logits, embedding = runtime(np.zeros((n, 64, 64, 3), np.uint8))
        assert logits.shape == (n, 3) and embedding.shape == (n, 3)
        assert logits.dtype == embedding.dtype == np.float32


def test_a_batch_gives_what_its_rows_give_alone(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    runtime = load_runtime(artefact)
    inputs, _ = artefact.probe()
    together, _ = runtime(inputs)
    alone = np.concatenate([runtime(inputs[i : i + 1])[0] for i in range(len(inputs))])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / MODEL).write_bytes(b"not onnx")
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        OnnxRuntime(tmp_path / MODEL)


def test_the_probe_passes_on_the_model_it_was_made_with(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    check_probe(artefact, load_runtime(artefact))


def test_the_probe_refuses_another_model(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    other = make_artefact(tmp_path / "b", seed=1)
    with pytest.raises(ArtefactError, match="differs"):
        check_probe(artefact, load_runtime(other))


def test_the_probe_refuses_numbers_that_are_not_finite(tmp_path):
    broken = make_artefact(tmp_path / "a", constant=float("nan"))
    with pytest.raises(ArtefactError, match="not finite"):
        check_probe(broken, load_runtime(broken))


def test_the_probe_refuses_another_number_of_classes(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    folder = tmp_path / "b"
    shutil.copytree(artefact.folder, folder)
    inputs, logits = artefact.probe()
    facts = artefact.manifest.model_dump(exclude={"files"})
    write_artefact(folder, facts, artefact.reference(), {"inputs": inputs, "logits": logits[:, :2]})
    with pytest.raises(ArtefactError, match=r"gives \(2, 3\), not \(2, 2\)"):
        check_probe(load_artefact(folder), load_runtime(artefact))
