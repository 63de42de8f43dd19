"""What is served: files that cannot run code, a manifest that names them by sha256, verified before every use.

manifest.json     what the model is and what was measured on these very bytes; its own sha256 is the fingerprint
model.onnx        input [n, *shape] -> float32 `logits` [n, classes], `embedding` [n, d <= 64] and, mostly, `ood` [n]
model.int8.onnx   the same, quantised; where that pays
reference.npz     the window the champion was judged on: what the journal is compared with
probe.npz         a few inputs and the logits that each form must give, checked before a service swaps to this model
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from menagerie.errors import ArtefactError
from menagerie.problems import ImageInput, TabularInput

MANIFEST, MODEL, REFERENCE, PROBE = "manifest.json", "model.onnx", "reference.npz", "probe.npz"
MODEL_INT8 = "model.int8.onnx"
COPIES = "copies.npz"
WEIGHTS = "weights.safetensors"  # torch's, beside the artefact in the registry: for further training, never served

Precision = Literal["fp32", "bf16", "int8", "int8_bf16"]
"""What layers compute in; `int8_bf16`: those of an int8 file that were left in float compute in bf16."""


class Form(BaseModel):
    """One way to run the model, and what was measured of it where the artefact was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: Literal["onnxruntime", "openvino"]
    precision: Precision
    file: str
    requires: tuple[str, ...] = Field((), description="processor features, any one of which is enough; none: any")
    milliseconds: float | None = Field(None, description="of the processor for one input in batches of 8, one thread")
    milliseconds_1: float | None = Field(None, description="the same, one input at a time")
    accuracy: float | None = Field(None, description="on validation")
    accepted: bool
    reason: str

    @property
    def name(self) -> str:
        """`<runtime>_<precision>`, as in the names of the probe's logits."""
        return f"{self.runtime}_{self.precision}"


class Manifest(BaseModel):
    """The contents of `manifest.json`, schema 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    problem: str
    classes: tuple[str, ...]
    input: Annotated[ImageInput | TabularInput, Field(discriminator="kind")]
    statistics: tuple[str, ...]
    backbone: str
    weights: str = Field("", description="name of the file that training began from")
    mirrored: bool = False
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    precision: Precision = "fp32"
    model_file: str = MODEL
    forms: tuple[Form, ...] = Field((), description="accepted ones first, fastest first; the first was judged")
    calibration: dict[str, float] | None = None
    thresholds: dict[str, float] | None = None
    metrics: dict[str, float]
    data_fingerprint: str
    labels_until: int = Field(0, description="sequence number of the last feedback the training set could hold")
    git_commit: str
    run_id: str
    created_at: datetime
    cpu_features: tuple[str, ...] = ()
    files: dict[str, str] = Field(description="sha256 of each file beside the manifest")


@dataclass(frozen=True, eq=False)
class Reference:
    """What the champion gave on the inputs it was judged on. Row i of each array is one input; `truth` holds class
    indices, `unlikeness` how unlike anything learnt it is (NaN: the model does not tell). Drawn from golden and recent
    in the proportion of the training mix."""

    statistics: NDArray[np.float32]  # [n, k]
    embeddings: NDArray[np.float32]  # [n, d]
    probabilities: NDArray[np.float32]  # [n, classes]
    truth: NDArray[np.int64]  # [n]
    unlikeness: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))  # [n]

    def __post_init__(self) -> None:
        if not len(self.unlikeness):
            object.__setattr__(self, "unlikeness", np.full(len(self.truth), np.nan, np.float32))


@dataclass(frozen=True, eq=False)
class Copies:
    """What the champion gave on changed copies of some inputs that it was judged on, m in all: where its accuracy is
    estimated without labels, this tells how confidence and unlikeness go with being right when the world changes."""

    conditions: tuple[str, ...]  # `<family> <level>`
    condition: NDArray[np.int64]  # [m], which of them
    confidence: NDArray[np.float32]  # [m]
    unlikeness: NDArray[np.float32]  # [m]
    right: NDArray[np.float64]  # [m], 1 or 0


@dataclass(frozen=True)
class Artefact:
    """A verified artefact on the local disk."""

    folder: Path
    manifest: Manifest
    fingerprint: str

    @property
    def model_path(self) -> Path:
        """The ONNX file that was judged."""
        return self.folder / self.manifest.model_file

    def reference(self) -> Reference:
        """The reference window."""
        arrays = _read_arrays(self.folder / REFERENCE)
        return Reference(**{name: arrays[name] for name in Reference.__dataclass_fields__ if name in arrays})

    def copies(self) -> Copies | None:
        """What it gave on changed copies; None for one made without."""
        if COPIES not in self.manifest.files:
            return None
        arrays = _read_arrays(self.folder / COPIES)
        return Copies(tuple(arrays.pop("conditions").tolist()), **arrays)

    def probe(self, form: str = "") -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Probe inputs [m, *shape] and the logits [m, classes] they gave when the artefact was made, in a form named
        `<runtime>_<precision>`; in the one that was judged where the probe does not know that name."""
        arrays = _read_arrays(self.folder / PROBE)
        return arrays["inputs"], arrays.get(f"logits_{form}", arrays["logits"])


def sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_artefact(
    folder: Path,
    facts: dict[str, Any],
    reference: Reference,
    probe: dict[str, NDArray[Any]],
    copies: Copies | None = None,
) -> Artefact:
    """Complete a folder that already holds `model.onnx` and the files of other forms; `facts` are the manifest's
    fields but `files`."""
    if copies is not None:
        _write_arrays(folder / COPIES, {**vars(copies), "conditions": np.array(copies.conditions)})
    _write_arrays(folder / REFERENCE, vars(reference))
    _write_arrays(folder / PROBE, probe)
    of_forms = {form.file for form in facts.get("forms", ()) if (folder / form.file).exists()}
    with_copies = {COPIES} if copies is not None else set()
    files = {name: sha256(folder / name) for name in {MODEL, REFERENCE, PROBE, *of_forms, *with_copies}}
    manifest = Manifest(**facts, files=files)
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return load_artefact(folder)


def load_artefact(folder: Path, fingerprint: str | None = None) -> Artefact:
    """Verify a folder and read its manifest.

    Raises:
        ArtefactError: a file is missing or has another sha256, the manifest is not one this version reads, or its
            own sha256 is not `fingerprint`.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read: {error.strerror}") from None
    found = hashlib.sha256(text).hexdigest()
    if fingerprint is not None and found != fingerprint:
        raise ArtefactError(f"{path}: sha256 is {found}, not {fingerprint}: the file was changed or cut short")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtefactError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise ArtefactError(f"{path}: {name!r} is not a plain file name")
        try:
            actual = sha256(folder / name)
        except OSError as error:
            raise ArtefactError(f"{folder / name}: cannot be read: {error.strerror}") from None
        if actual != expected:
            raise ArtefactError(f"{folder / name}: sha256 is {actual}, the manifest says {expected}")
    needed = {MODEL, REFERENCE, PROBE, manifest.model_file, *(form.file for form in manifest.forms if form.accepted)}
    if missing := needed - manifest.files.keys():
        raise ArtefactError(f"{path}: names no {', '.join(sorted(missing))}")
    return Artefact(folder, manifest, found)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
