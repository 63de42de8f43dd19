"""An artefact is what its manifest says, byte for byte, or it is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from menagerie.artefact import (
    MANIFEST,
    MODEL,
    MODEL_INT8,
    PROBE,
    REFERENCE,
    Artefact,
    Form,
    load_artefact,
    sha256,
    write_artefact,
)
from menagerie.errors import ArtefactError
from tests.fixtures.make_v1 import make_artefact


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    (tmp_path / "made").mkdir()
    return make_artefact(tmp_path / "made")


def rewrite(artefact: Artefact, change: Callable[[dict[str, Any]], Any]) -> None:
    path = artefact.folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_was_written_is_read_back(artefact: Artefact) -> None:
    again = load_artefact(artefact.folder, artefact.fingerprint)
    assert again == artefact
    assert again.fingerprint == hashlib.sha256((artefact.folder / MANIFEST).read_bytes()).hexdigest()
    assert again.manifest.files.keys() == {MODEL, REFERENCE, PROBE}
    assert again.manifest.files[MODEL] == sha256(again.model_path)
    assert again.manifest.classes == ("cat", "dog")
    reference = again.reference()
    assert reference.statistics.shape == (8, 2)
    assert reference.truth.tolist() == [0, 1] * 4
    inputs, logits = again.probe()
    assert inputs.shape == (3, 16, 16, 3)
    assert inputs.dtype == np.uint8
    assert logits.shape == (3, 2)


@pytest.mark.parametrize("name", [MODEL, REFERENCE, PROBE])
def test_a_file_cut_short_is_refused(artefact: Artefact, name: str) -> None:
    path = artefact.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=f"{name}: sha256 is .*, the manifest says"):
        load_artefact(artefact.folder)


@pytest.mark.parametrize("name", [MODEL, REFERENCE, PROBE])
def test_one_bit_turned_over_is_refused(artefact: Artefact, name: str) -> None:
    path = artefact.folder / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtefactError, match=f"{name}: sha256"):
        load_artefact(artefact.folder, artefact.fingerprint)


@pytest.mark.parametrize("name", [MANIFEST, MODEL, REFERENCE, PROBE])
def test_a_missing_file_is_refused(artefact: Artefact, name: str) -> None:
    (artefact.folder / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name}: cannot be read: No such file"):
        load_artefact(artefact.folder)


@pytest.mark.parametrize(
    ("field", "value"), [("metrics", {"golden_accuracy": 1.0}), ("classes", ["dog", "cat"]), ("problem", "pets")]
)
def test_a_changed_manifest_has_another_fingerprint(artefact: Artefact, field: str, value: object) -> None:
    rewrite(artefact, lambda manifest: manifest.update({field: value}))
    with pytest.raises(ArtefactError, match=f"not {artefact.fingerprint}: the file was changed or cut short"):
        load_artefact(artefact.folder, artefact.fingerprint)
    assert load_artefact(artefact.folder).fingerprint != artefact.fingerprint


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_none_is_refused(artefact: Artefact, text: bytes) -> None:
    (artefact.folder / MANIFEST).write_bytes(text)
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        load_artefact(artefact.folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"schema_version": 2}, "schema_version"),
        ({"precision": "int4"}, "precision"),
        ({"runtime": "pickle"}, "runtime"),
        ({"input": {"kind": "sound"}}, "input"),
        ({"metrics": {"golden_accuracy": "high"}}, r"metrics\.golden_accuracy"),
    ],
)
def test_what_this_version_does_not_read_is_refused_by_field(
    artefact: Artefact, change: dict[str, object], field: str
) -> None:
    rewrite(artefact, lambda manifest: manifest.update(change))
    with pytest.raises(ArtefactError, match=rf"manifest\.json: {field}"):
        load_artefact(artefact.folder)


def test_a_manifest_without_a_field_is_refused(artefact: Artefact) -> None:
    rewrite(artefact, lambda manifest: manifest.pop("data_fingerprint"))
    with pytest.raises(ArtefactError, match="data_fingerprint: Field required"):
        load_artefact(artefact.folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/model.onnx", "..", ".", ""])
def test_a_name_that_leads_elsewhere_is_refused(artefact: Artefact, name: str) -> None:
    secret = artefact.folder.parent / "secret"
    secret.write_bytes(b"x")
    rewrite(artefact, lambda manifest: manifest["files"].update({name: sha256(secret)}))
    with pytest.raises(ArtefactError):
        load_artefact(artefact.folder)


def test_a_manifest_that_names_no_model_is_refused(artefact: Artefact) -> None:
    rewrite(artefact, lambda manifest: manifest["files"].pop(MODEL))
    with pytest.raises(ArtefactError, match=r"names no model\.onnx"):
        load_artefact(artefact.folder)


def test_arrays_that_would_run_code_are_not_read(artefact: Artefact) -> None:
    """Even where the hash is right: whoever made the file may not make us run it."""
    path = artefact.folder / PROBE
    with path.open("wb") as file:
        np.savez(file, inputs=np.array([print], dtype=object), logits=np.zeros(1))
    rewrite(artefact, lambda manifest: manifest["files"].update({PROBE: sha256(path)}))
    loaded = load_artefact(artefact.folder)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        loaded.probe()


FP32 = Form(runtime="onnxruntime", precision="fp32", file=MODEL, accuracy=0.9, accepted=True, reason="the reference")
INT8 = Form(
    runtime="openvino", precision="int8", file=MODEL_INT8, milliseconds=3.5, accuracy=0.9, accepted=True, reason="fine"
)
BF16 = Form(runtime="openvino", precision="bf16", file=MODEL, requires=("amx_bf16",), accepted=False, reason="not here")


def written_with(artefact: Artefact, *forms: Form, **facts: object) -> Artefact:
    inputs, logits = artefact.probe()
    probe = {"inputs": inputs, "logits": logits, "logits_onnxruntime_fp32": logits + 1}
    facts = artefact.manifest.model_dump(exclude={"files", "forms"}) | {"forms": forms} | facts
    return write_artefact(artefact.folder, facts, artefact.reference(), probe)


def test_forms_and_their_files_are_written_and_read_back(artefact: Artefact) -> None:
    (artefact.folder / MODEL_INT8).write_bytes(b"smaller")
    chosen = {"runtime": "openvino", "precision": "int8", "model_file": MODEL_INT8}
    again = load_artefact(written_with(artefact, INT8, FP32, BF16, **chosen).folder)
    assert again.manifest.forms == (INT8, FP32, BF16)
    assert again.manifest.files.keys() == {MODEL, MODEL_INT8, REFERENCE, PROBE}
    assert again.manifest.files[MODEL_INT8] == hashlib.sha256(b"smaller").hexdigest()
    assert again.model_path == artefact.folder / MODEL_INT8
    (artefact.folder / MODEL_INT8).write_bytes(b"other")
    with pytest.raises(ArtefactError, match=f"{MODEL_INT8}: sha256 is"):
        load_artefact(artefact.folder)


def test_a_form_that_was_refused_needs_no_file(artefact: Artefact) -> None:
    refused = INT8.model_copy(update={"accepted": False})
    again = written_with(artefact, FP32, refused)
    assert again.manifest.files.keys() == {MODEL, REFERENCE, PROBE}
    assert again.model_path == artefact.folder / MODEL


@pytest.mark.parametrize("change", [{"forms": (FP32, INT8)}, {"model_file": MODEL_INT8}])
def test_what_is_to_be_served_must_be_among_the_files(artefact: Artefact, change: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match=rf"names no {MODEL_INT8}"):
        written_with(artefact, *change.pop("forms", ()), **change)


def test_the_probe_knows_the_logits_of_each_form(artefact: Artefact) -> None:
    made = written_with(artefact, FP32)
    judged = made.probe()[1]
    np.testing.assert_array_equal(made.probe("onnxruntime_fp32")[1], judged + 1)
    np.testing.assert_array_equal(made.probe("openvino_fp32")[1], judged)


def test_the_frozen_artefact_of_version_1_is_still_read() -> None:
    frozen = load_artefact(Path(__file__).parents[1] / "fixtures" / "v1" / "artefact")
    assert (frozen.manifest.runtime, frozen.manifest.precision, frozen.manifest.forms) == ("onnxruntime", "fp32", ())
    assert frozen.model_path.name == MODEL
    np.testing.assert_array_equal(frozen.probe("onnxruntime_fp32")[1], frozen.probe()[1])
