"""One forward pass of a model's file, on one thread: parallelism is across batches, where it does not collapse."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from menagerie.artefact import Artefact, Form, Manifest
from menagerie.errors import ArtefactError
from menagerie.hardware import cpu_features, has_any

# How far a logit of the probe may be from what it was, as a share of the largest one. fp32: another processor adds in
# another order. bf16 and int8: that rounding moves some values to the neighbouring level, which is 1/256 of their
# range away, and layers add up; still far below what another model or another picture gives.
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "int8": 5e-2}

# How far what an input gives may be from what it gives alone, whatever shares its batch: as a share of the largest
# number of that output, so of a probability at most this. fp32: sums are added up in another order for another size of
# batch. bf16 and int8: so little may round a value to the neighbouring level.
BATCH_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2, "int8": 1e-2}

STREAMS = 8  # at most: each has a graph of its own in memory

Arrays = dict[str, NDArray[np.float32]]
Features = Callable[[NDArray[Any]], NDArray[np.float32]]  # inputs [n, *shape] to [n, width], for any thread
Providers = Sequence[tuple[str, Mapping[str, str]]]

# ONNX Runtime's, the first that is there: what it runs on, with what it is told. On a GPU fp32 is fp32, not TF32, and
# convolutions are not timed anew for each size of batch.
PROVIDERS: Providers = (
    ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}),
    ("CPUExecutionProvider", {}),
)

_SETTING_UP = threading.Lock()

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported, which else makes an id to report under


class Outputs(NamedTuple):
    """What a model gives for n inputs."""

    logits: NDArray[np.float32]  # [n, classes]
    embedding: NDArray[np.float32]  # [n, d]
    ood: NDArray[np.float32] | None  # [n], the higher the less like anything learnt; None: the model does not tell


class Runtime(Protocol):
    """What runs a model. Safe to call from several threads at once."""

    @property
    def form(self) -> str:
        """Runtime and precision, as in the names of the probe's logits."""

    @property
    def device(self) -> str:
        """What it runs on, as the runtime names it."""

    def __call__(self, inputs: NDArray[Any]) -> Outputs:
        """Inputs [n, *shape] to what the model gives for them."""

    def warm(self, inputs: NDArray[Any]) -> None:
        """Run once, so that the first request does not pay for what is set up late."""


class _Runs:
    """What the runtimes share."""

    form: str
    device: str

    def run(self, inputs: NDArray[Any]) -> Arrays:
        """All outputs of the file by name, in memory of their own."""
        raise NotImplementedError

    def __call__(self, inputs: NDArray[Any]) -> Outputs:
        """Inputs [n, *shape] to what the model gives for them."""
        found = self.run(inputs)
        return Outputs(found["logits"], found["embedding"], found.get("ood"))

    def warm(self, inputs: NDArray[Any]) -> None:
        """Run once."""
        self.run(inputs)


class OnnxRuntime(_Runs):
    """An ONNX file in ONNX Runtime: on a GPU where this build of it has CUDA and there is one, else on the processor.

    Args:
        model: the file.
        threads: of one forward pass.
        precision: what the file holds, fp32 or int8.

    Raises:
        ArtefactError: the runtime cannot load it.
    """

    def __init__(self, model: Path, threads: int = 1, precision: str = "fp32") -> None:
        import onnxruntime as ort  # here: a service whose model runs in OpenVINO does without its memory

        ort.disable_telemetry_events()
        self.form = f"onnxruntime_{precision}"
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            chosen = providers(ort.get_available_providers())
            self._session = ort.InferenceSession(str(model), options, providers=chosen)
        except Exception as error:  # the runtime has a class of its own for each way to fail
            raise ArtefactError(f"{model}: cannot be loaded: {error}") from error
        self.device = self._session.get_providers()[0]  # CUDA is left out where no GPU is found
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def warm(self, inputs: NDArray[Any]) -> None:
        """Run once, and give back the memory of it: a service that has just started needs none for a full batch."""
        import onnxruntime as ort

        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._session.run(self._outputs, {self._input: inputs}, options)

    def run(self, inputs: NDArray[Any]) -> Arrays:
        """All outputs of the file by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: inputs}), strict=True))


class OpenVinoRuntime(_Runs):
    """An ONNX file in OpenVINO, on the processor.

    Args:
        model: the file.
        threads: of one forward pass.
        precision: fp32; bf16, which computes the same file in bfloat16; int8, where the file holds that; int8_bf16,
            where the layers of such a file that are left in float compute in bfloat16.

    Raises:
        ArtefactError: the runtime cannot load it.
    """

    def __init__(self, model: Path, threads: int = 1, precision: str = "fp32") -> None:
        self.form, self.device = f"openvino_{precision}", "CPU"
        # Its converter of other formats reports home when it is imported, and takes 10 MB; it does without.
        sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # None: not to be imported
        # A stream is one forward pass at a time, and passes of one stream wait for each other.
        streams = min(max(1, (os.cpu_count() or 1) // threads), STREAMS)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision.endswith("bf16") else "f32",
            "INFERENCE_NUM_THREADS": streams * threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # else all models and processes share the same core
        }
        try:
            import openvino

            with _SETTING_UP:  # of numpy, in one thread: when several begin with it at once, they wait for ever
                _ = openvino.Tensor(np.zeros(1, np.float32)).data
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(model), self.device, settings)
        except Exception as error:  # as above
            raise ArtefactError(f"{model}: cannot be loaded: {error}") from error
        self._tensor = openvino.Tensor
        self._dtype = self._compiled.input().element_type.to_dtype()
        self._outputs = [output.any_name for output in self._compiled.outputs]
        self._local = threading.local()

    def warm(self, inputs: NDArray[Any]) -> None:
        """Run once, and give back the memory of it."""
        self._compiled.create_infer_request().infer([inputs], share_inputs=True)
        self._compiled.release_memory()

    def run(self, inputs: NDArray[Any]) -> Arrays:
        """All outputs of the file by name; copied, since a request's memory is used again.

        Tensors are bound by hand: `infer` takes a quarter of a millisecond more to find out what it was given.
        """
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        request = self._local.request
        lent = np.require(inputs, self._dtype, ("C", "W"))  # the tensor does not hold on to it
        request.set_input_tensor(self._tensor(lent, shared_memory=True))
        request.start_async()
        request.wait()
        return {name: request.get_output_tensor(at).data.copy() for at, name in enumerate(self._outputs)}


def providers(available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Those of `PROVIDERS` that are available, in order, with what they are told."""
    return [(name, dict(options)) for name, options in PROVIDERS if name in available]


def batch_tolerance(precision: str) -> float:
    """`BATCH_TOLERANCE` of a form's precision; of two in one file, that of what the second computes in."""
    return BATCH_TOLERANCE[precision.rpartition("_")[2]]


def open_runtime(runtime: str, precision: str, model: Path, threads: int = 1) -> OnnxRuntime | OpenVinoRuntime:
    """A model's file in one of the runtimes.

    Raises:
        ArtefactError: it cannot be loaded.
    """
    kind = OpenVinoRuntime if runtime == "openvino" else OnnxRuntime
    return kind(model, threads, precision)


def open_features(runtime: str, precision: str, trunk: Path, threads: int = 1) -> Features:
    """A trunk's file as a function of inputs to features.

    Raises:
        ArtefactError: it cannot be loaded.
    """
    opened = open_runtime(runtime, precision, trunk, threads)
    return lambda inputs: opened.run(inputs)["features"]


def choose(manifest: Manifest) -> Form:
    """The form that was judged or, where this processor cannot run it, the fastest accepted one that it can.

    Raises:
        ArtefactError: there is none.
    """
    if not manifest.forms:  # made before there were several
        return Form(
            runtime=manifest.runtime, precision=manifest.precision, file=manifest.model_file, accepted=True, reason=""
        )
    for form in manifest.forms:
        if form.accepted and has_any(form.requires):
            return form
    raise ArtefactError(f"{manifest.problem}: no form of the model runs on this processor ({' '.join(cpu_features())})")


def load_runtime(artefact: Artefact, threads: int = 1) -> Runtime:
    """An artefact's model in the form that suits this processor.

    Raises:
        ArtefactError: there is none, or it cannot be loaded.
    """
    form = choose(artefact.manifest)
    return open_runtime(form.runtime, form.precision, artefact.folder / form.file, threads)


def check_probe(artefact: Artefact, runtime: Runtime) -> None:
    """Compare the logits of the probe inputs with those that this form gave when the artefact was made.

    Raises:
        ArtefactError: they differ by more than `TOLERANCE`, are not finite, or the model does not run.
    """
    inputs, expected = artefact.probe(runtime.form)
    try:
        found = runtime(inputs)
    except Exception as error:  # as above
        raise ArtefactError(f"{artefact.fingerprint}: the probe does not run: {error}") from error
    if not all(np.isfinite(array).all() for array in found if array is not None):
        raise ArtefactError(f"{artefact.fingerprint}: the probe gives numbers that are not finite")
    if found.logits.shape != expected.shape:
        raise ArtefactError(f"{artefact.fingerprint}: the probe gives {found.logits.shape}, not {expected.shape}")
    share = TOLERANCE[runtime.form.rpartition("_")[2]]
    limit = share * max(1.0, float(np.abs(expected).max(initial=0.0)))
    if (worst := float(np.abs(found.logits - expected).max(initial=0.0))) > limit:
        raise ArtefactError(f"{artefact.fingerprint}: a logit of the probe differs by {worst:.2g}, more than {limit:g}")
