"""One forward pass in either runtime, which form is chosen, and the proof by the probe."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from menagerie import hardware
from menagerie.artefact import MODEL, PROBE, Artefact, Form, load_artefact, write_artefact
from menagerie.errors import ArtefactError
from menagerie.inference.runtime import (
    TOLERANCE,
    OnnxRuntime,
    OpenVinoRuntime,
    check_probe,
    choose,
    load_runtime,
    open_features,
    open_runtime,
    providers,
)
from tests.helpers import make_artefact
from tests.unit.models.graphs import smooth_pictures, write_trunk

RUNTIMES = ["onnxruntime", "openvino"]
FP32 = Form(runtime="onnxruntime", precision="fp32", file=MODEL, accepted=True, reason="the reference")
BF16 = Form(
    runtime="openvino", precision="bf16", file=MODEL, requires=("avx512_bf16", "amx_bf16"), accepted=True, reason=""
)
VINO = Form(runtime="openvino", precision="fp32", file=MODEL, accepted=True, reason="")


def with_forms(artefact: Artefact, folder: Path, *forms: Form, **logits: np.ndarray) -> Artefact:
    """The same model with other forms, and logits of theirs in the probe."""
    shutil.copytree(artefact.folder, folder)
    inputs, judged = artefact.probe()
    facts = artefact.manifest.model_dump(exclude={"files", "forms"})
    facts |= {"forms": forms, "runtime": forms[0].runtime, "precision": forms[0].precision}
    return write_artefact(folder, facts, artefact.reference(), {"inputs": inputs, "logits": judged, **logits})


def processor(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    monkeypatch.setattr(hardware, "cpu_features", lambda: features)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_gives_logits_and_an_embedding_for_any_batch(tmp_path, runtime):
    run = open_runtime(runtime, "fp32", make_artefact(tmp_path / "a").model_path)
    run.warm(np.zeros((1, 64, 64, 3), np.uint8))
    for n in (1, 3):
        logits, embedding, ood = run(np.zeros((n, 64, 64, 3), np.uint8))
        assert logits.shape == (n, 3) and embedding.shape == (n, 3)
        assert logits.dtype == embedding.dtype == np.float32
        assert ood is None


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_gives_what_its_rows_give_alone(tmp_path, runtime):
    artefact = make_artefact(tmp_path / "a")
    run = open_runtime(runtime, "fp32", artefact.model_path)
    inputs, expected = artefact.probe()
    alone = np.concatenate([run(inputs[i : i + 1]).logits for i in range(len(inputs))])
    np.testing.assert_allclose(run(inputs).logits, alone, rtol=1e-5)
    np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_outlives_the_next_one(tmp_path, runtime):
    artefact = make_artefact(tmp_path / "a")
    run = open_runtime(runtime, "fp32", artefact.model_path)
    inputs, _ = artefact.probe()
    first = run(inputs)
    kept = first.logits.copy()
    run(255 - inputs)
    np.testing.assert_array_equal(first.logits, kept)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_many_threads_get_their_own_answers(tmp_path, runtime):
    artefact = make_artefact(tmp_path / "a")
    run = open_runtime(runtime, "fp32", artefact.model_path)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 1, 64, 64, 3), np.uint8)
    expected = [run(picture).logits for picture in pictures]
    wrong: list[int] = []

    def ask(number: int) -> None:
        for _ in range(50):
            if not np.allclose(run(pictures[number]).logits, expected[number], rtol=1e-5):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_small_batches_do_not_wait_for_a_large_one(tmp_path, runtime, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    run = open_features(runtime, "fp32", write_trunk(tmp_path / "trunk.onnx"))
    one, many = smooth_pictures(1), np.repeat(smooth_pictures(1), 20_000, axis=0)
    run(one)
    large = threading.Thread(target=run, args=(many,))
    large.start()
    time.sleep(0.3)  # until it is well under way
    assert large.is_alive(), "the large batch is too small for this test"
    answered = 0
    while large.is_alive():
        run(one)
        answered += 1
    assert answered > 10  # where they wait, one comes at its end


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            ["CPUExecutionProvider", "TensorrtExecutionProvider", "CUDAExecutionProvider"],
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ),
    ],
)
def test_onnx_runtime_takes_a_gpu_where_it_has_one(available, chosen):
    assert [name for name, _ in providers(available)] == chosen


def test_a_runtime_names_what_it_runs_on(tmp_path):
    import onnxruntime

    model = make_artefact(tmp_path / "a").model_path
    first = providers(onnxruntime.get_available_providers())[0][0]
    assert open_runtime("onnxruntime", "fp32", model).device in (first, "CPUExecutionProvider")  # or no GPU is there
    assert open_runtime("openvino", "fp32", model).device == "CPU"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_no_model_is_refused(tmp_path, runtime):
    (tmp_path / MODEL).write_bytes(b"not onnx")
    with pytest.raises(ArtefactError, match="cannot be loaded"):
        open_runtime(runtime, "fp32", tmp_path / MODEL)


def test_a_trunk_is_a_function_to_features(tmp_path):
    trunk = write_trunk(tmp_path / "trunk.onnx")
    inputs = smooth_pictures(3)
    found = [open_features(runtime, "fp32", trunk)(inputs) for runtime in RUNTIMES]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_openvino_is_loaded_late_and_neither_runtime_reports_home(tmp_path):
    """Both do when they are imported, under an id that they keep in a file."""
    artefact = make_artefact(tmp_path / "a")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    code = f"""
import sys
from pathlib import Path
from menagerie.inference.runtime import OnnxRuntime, OpenVinoRuntime
OnnxRuntime(Path({str(artefact.model_path)!r}))
assert not [name for name in sys.modules if name.startswith("openvino")]
OpenVinoRuntime(Path({str(artefact.model_path)!r}))
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.startswith(("openvino_telemetry", "openvino.tools.ovc."))]
assert sys.modules["openvino.tools.ovc"] is None
"""
    before = sorted(artefact.folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work,
        env={"HOME": str(home), "PATH": "", "MENAGERIE_HOME": str(home / "m")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(artefact.folder.iterdir()) == before
    assert [path for path in (*home.rglob("*"), *work.rglob("*")) if path.is_file()] == []


@pytest.mark.parametrize(
    ("features", "expected"), [(("avx2",), FP32), (("avx2", "avx512_bf16"), BF16), (("amx_bf16",), BF16), ((), FP32)]
)
def test_the_first_form_that_the_processor_runs_is_chosen(tmp_path, monkeypatch, features, expected):
    slow = VINO.model_copy(update={"accepted": False})
    artefact = with_forms(make_artefact(tmp_path / "a"), tmp_path / "b", BF16, FP32, VINO, slow)
    processor(monkeypatch, *features)
    assert choose(artefact.manifest) == expected
    run = load_runtime(artefact)
    assert isinstance(run, OpenVinoRuntime if expected.runtime == "openvino" else OnnxRuntime)
    assert run.form == f"{expected.runtime}_{expected.precision}"


def test_a_form_that_was_not_accepted_is_never_chosen(tmp_path, monkeypatch):
    refused = VINO.model_copy(update={"accepted": False})
    artefact = with_forms(make_artefact(tmp_path / "a"), tmp_path / "b", BF16, refused)
    processor(monkeypatch, "avx2")
    with pytest.raises(ArtefactError, match="no form of the model runs on this processor"):
        load_runtime(artefact)


def test_an_artefact_from_before_there_were_forms_runs_as_it_did(tmp_path):
    frozen = load_artefact(Path(__file__).parents[2] / "fixtures" / "v1" / "artefact")
    assert frozen.manifest.forms == ()
    run = load_runtime(frozen)
    assert run.form == "onnxruntime_fp32"
    check_probe(frozen, run)


def test_the_probe_passes_on_the_model_it_was_made_with(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    for runtime in RUNTIMES:
        check_probe(artefact, open_runtime(runtime, "fp32", artefact.model_path))


def test_the_probe_refuses_another_model(tmp_path):
    artefact = make_artefact(tmp_path / "a")
    other = make_artefact(tmp_path / "b", seed=1)
    with pytest.raises(ArtefactError, match="differs"):
        check_probe(artefact, load_runtime(other))


@pytest.mark.parametrize(("precision", "share"), TOLERANCE.items())
@pytest.mark.parametrize(("times", "passes"), [(0.9, True), (1.1, False)])
def test_each_form_is_held_to_its_own_logits_and_tolerance(tmp_path, precision, share, times, passes):
    artefact = make_artefact(tmp_path / "a")
    logits = artefact.probe()[1].copy()
    logits *= 20 / np.abs(logits).max()  # so that the tolerance is a share of them
    form = VINO.model_copy(update={"precision": precision})
    moved = logits.copy()
    moved.flat[np.abs(logits).argmin()] += 20 * share * times
    made = with_forms(artefact, tmp_path / "b", form, **{f"logits_openvino_{precision}": logits})

    class Moved:
        form = f"openvino_{precision}"

        def __call__(self, inputs):
            return type(run(inputs))(moved, np.zeros((2, 3), np.float32), None)

        def warm(self, inputs): ...

    run = load_runtime(artefact)
    if passes:
        check_probe(made, Moved())
    else:
        with pytest.raises(ArtefactError, match="differs"):
            check_probe(made, Moved())


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
    assert (folder / PROBE).exists()
    with pytest.raises(ArtefactError, match=r"gives \(2, 3\), not \(2, 2\)"):
        check_probe(load_artefact(folder), load_runtime(artefact))
