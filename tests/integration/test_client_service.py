"""The client, the other names of routes, and MLflow's protocol, against one real service."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from menagerie.artefact import MODEL, Artefact
from menagerie.client import AsyncClient, Client, Patience, Refused, Unavailable
from menagerie.inference.runtime import OnnxRuntime
from menagerie.journal import Journal
from menagerie.kinds import make_kind
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import CLASSES, ROOT, Served, error_code, make_artefact, make_table_artefact, picture, serve

ROWS = [{"a": 3.0, "b": 1.0}, {"a": -1.0, "b": 3.0}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def artefact(home: Path) -> Artefact:
    return make_artefact(home / "made")


@pytest.fixture(scope="module")
def journal(home: Path) -> Iterator[Journal]:
    made = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool-of-the-test")
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(home: Path, artefact: Artefact, journal: Journal) -> Iterator[Served]:
    """A service of pictures, the default, of a table, and of a problem that has no model."""
    channel = ReleaseChannel(f"file://{home / 'releases'}", journal)
    for one in (artefact, make_table_artefact(home / "table")):
        channel.publish(one)
        channel.promote(one.manifest.problem, ModelRef("1", one.fingerprint), who="test", why="test")
    with serve(home, problems="sketches,mushrooms,pets") as running:
        running.wait("the table", lambda: running.client.get("/model?problem=mushrooms").status_code == 200)
        yield running


@pytest.fixture
def url(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_the_client_predicts_says_what_it_was_and_reads_back(url, journal, tmp_path):
    file = tmp_path / "animal.png"
    file.write_bytes(picture((10, 200, 30), form="PNG"))
    with Client(url, client_id="me") as client:
        client.wait_until_ready()
        assert client.ready()
        answer = client.predict(picture())
        assert answer.label in CLASSES and answer.journaled and answer.model.version == "1"
        assert answer.confidence == max(answer.probabilities.values())
        assert [client.feedback(answer.prediction_id, label) for label in ("dog", "dog", "fox")] == [
            "added",
            "same",
            "superseded",
        ]
        several = client.predict([picture(), file, picture((1, 2, 3))] * 15)
        assert len(several) == 45 and len({one.prediction_id for one in several}) == 45
        assert several[0].probabilities == pytest.approx(answer.probabilities, abs=1e-5)
        assert several[1].probabilities == pytest.approx(client.predict(file).probabilities, abs=1e-5)
        assert client.predict([]) == []
        model = client.model()
        assert (model.ready, model.degraded, model.classes) == (True, False, CLASSES)
        assert model.served == answer.model and model.facts["backbone"] == "tiny"
        stats = client.stats()
        assert stats.feedback == 1 and stats.by_version == {"1": stats.predictions} and stats.predictions >= 47
        newest = client.predictions(limit=3)
        assert len(newest) == 3 and newest[0].at >= newest[2].at
        found = journal.prediction(answer.prediction_id)
        assert found is not None and found.label == answer.label
        with pytest.raises(Refused) as caught:
            client.predict(b"<svg/>")
        assert (caught.value.status, caught.value.code, len(caught.value.request_id)) == (415, "unsupported_media", 32)


def test_the_client_for_an_event_loop_does_the_same_at_once_and_side_by_side(url):
    async def run() -> None:
        async with AsyncClient(url, client_id="you") as client:
            await client.wait_until_ready()
            answers = await asyncio.gather(*(client.predict(picture()) for _ in range(8)))
            assert len({one.prediction_id for one in answers}) == 8
            assert await client.feedback(answers[0].prediction_id, answers[0].label) == "added"
            assert len(await client.predict([picture()] * 3)) == 3
            assert (await client.model()).ready and await client.ready()
            assert (await client.stats()).predictions >= 11
            assert len(await client.predictions(limit=2)) == 2
            with pytest.raises(Refused, match="404"):
                await client.feedback("0" * 32, "cat")

    asyncio.run(run())


def test_the_client_asks_about_the_problem_it_was_made_for(url):
    with Client(url, problem="mushrooms") as client:
        assert client.predict(ROWS[0]).label == "yes"
        assert [one.label for one in client.predict(ROWS)] == ["yes", "no"]
    with Client(url, problem="pets", patience=Patience(deadline=0.5)) as client:
        assert client.model().ready is False
        with pytest.raises(Unavailable, match="has no model yet"):
            client.predict(picture())


def test_other_names_lead_to_the_same(served):
    client = served.client
    infer = client.post("/infer", content=picture(), headers={"Content-Type": "image/jpeg"}).json()
    assert infer["probabilities"] == pytest.approx(served.predict().json()["probabilities"], abs=1e-5)
    assert client.get("/model-info").json() == client.get("/model").json()
    assert client.get("/infer").status_code == client.post("/ping").status_code == 405
    for path in ("/health", "/ping"):
        assert client.get(path).json() == {"status": "ok", "problem": "sketches", "version": "1"}
        absent = client.get(f"{path}?problem=pets")
        assert (absent.status_code, error_code(absent)) == (503, "overloaded")
        assert absent.headers["Retry-After"] and client.get(f"{path}?problem=none").status_code == 404
    paths = client.get("/docs.json").json()["paths"]
    assert {"/infer", "/health", "/model-info", "/ping", "/invocations"} <= set(paths)
    assert "/invocations" in client.get("/docs").text
    assert 'route="/invocations"' not in client.get("/metrics").text
    client.post("/invocations", json={})
    assert 'route="/invocations"' in client.get("/metrics").text


def test_invocations_takes_pictures_in_every_form_of_mlflow(served, journal):
    raw = picture()
    text = base64_of(raw)
    bodies = [
        {"instances": [text, text]},
        {"instances": [{"image": text}, {"image": text}]},
        {"inputs": [text, f"data:image/jpeg;base64,{text}"]},
        {"inputs": {"image": [text, text]}},
        {"dataframe_records": [{"image": text}, {"image": text}]},
        {"dataframe_split": {"columns": ["image"], "index": [0, 1], "data": [[text], [text]]}},
    ]
    expected = served.predict(raw).json()
    for body in bodies:
        answer = served.client.post("/invocations", json=body)
        assert answer.status_code == 200, (body.keys(), answer.text)
        found = answer.json()["predictions"]
        assert len(found) == 2
        for one in found:
            assert set(one) == set(expected) and one["label"] == expected["label"]
            assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
            kept = journal.prediction(one["prediction_id"])
            assert kept is not None and kept.input_sha256 == journal.prediction(expected["prediction_id"]).input_sha256


@pytest.mark.parametrize("resize", [64, 73])
def test_the_models_own_input_reaches_the_model_as_it_was_sent(resize):
    """Whatever preprocessing cuts away: 73 leaves an odd border."""
    from bento.scoring import scored_inputs
    from menagerie.problems import ImageInput

    spec = ImageInput(kind="image", size=64, resize=resize)
    sent = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)
    kind = make_kind(spec)
    for body in ({"inputs": sent.tolist()}, {"inputs": {"input": sent.tolist()}}, {"instances": sent.tolist()}):
        raws = scored_inputs(json.dumps(body).encode(), spec)
        assert np.array_equal(np.stack([kind.preprocess(kind.decode(raw)) for raw in raws]), sent)


def test_invocations_answers_what_the_file_gives_for_its_own_input(served, artefact, journal):
    sent = np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), np.uint8)
    answer = served.client.post("/invocations", json={"inputs": sent.tolist()})
    logits = OnnxRuntime(artefact.folder / MODEL)(sent).logits
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    for one, row in zip(answer.json()["predictions"], shares, strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-4)
        assert one["journaled"] and journal.prediction(one["prediction_id"]) is not None


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": ROWS},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[1, 3], [3, -1]]}},
        {"instances": ROWS},
        {"inputs": {"a": [3, -1], "b": [1, 3]}},
        {"inputs": [[3, 1], [-1, 3]]},
        {"inputs": {"input": [[3, 1], [-1, 3]]}},
    ],
)
def test_invocations_takes_rows_in_every_form_of_mlflow(served, body):
    answer = served.client.post("/invocations?problem=mushrooms", json=body)
    assert [one["label"] for one in answer.json()["predictions"]] == ["yes", "no"]


SMALL = np.zeros((1, 64, 64, 3), int).tolist()
WRONG = [
    (400, b"{"),
    (400, b"[]"),
    (400, {}),
    (400, {"instances": ["x"], "inputs": ["x"]}),
    (400, {"params": {}}),
    (400, {"instances": []}),
    (400, {"instances": {}}),
    (400, {"inputs": "x"}),
    (400, {"inputs": {}}),
    (400, {"inputs": {"a": [1], "b": [1, 2]}}),
    (400, {"inputs": {"a": 1}}),
    (400, {"dataframe_records": [1]}),
    (400, {"dataframe_split": {"columns": ["image"]}}),
    (400, {"dataframe_split": {"columns": ["image", "image"], "data": [["x", "y"]]}}),
    (400, {"dataframe_split": {"columns": [["image"]], "data": [["x"]]}}),
    (400, {"dataframe_split": {"columns": ["image"], "data": [["x", "y"]]}}),
    (400, {"dataframe_split": {"columns": ["image"], "data": ["x"]}}),
    (400, {"dataframe_records": [{"picture": "x"}]}),
    (400, {"instances": ["not base64!"]}),
    (400, {"instances": [None]}),
    (400, b'{"inputs": [[[[NaN]]]]}'),
    (400, b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    (413, {"instances": ["x"] * 33}),
    (415, {"instances": ["data:text/html;base64,AAAA"]}),
    (415, {"instances": [base64_of(b"<svg/>")]}),
    (422, {"instances": [""]}),
    (422, {"instances": [base64_of(picture()[:200])]}),
    (422, {"inputs": [[[[0, 0, 0]]]]}),
    (422, {"inputs": [[[[0, 0, 0]], [[0]]]]}),
    (422, {"inputs": np.full((1, 64, 64, 3), 256).tolist()}),
    (422, {"inputs": np.full((1, 64, 64, 3), -1).tolist()}),
    (422, {"inputs": np.full((1, 64, 64, 3), 0.5).tolist()}),
    (422, {"inputs": np.full((1, 64, 64, 3), 10**30, object).tolist()}),
    (422, {"inputs": [[["x"]]]}),
    (422, {"inputs": [[[]] * 64]}),
    (422, b'{"inputs": [' + b"[" * 200 + b"]" * 200 + b"]}"),
]


@pytest.mark.parametrize(("status", "body"), WRONG)
def test_invocations_refuses_what_is_wrong_and_journals_nothing(served, journal, status, body):
    before = journal.counts("sketches", quorum=2)["predictions"]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = served.client.post("/invocations", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, bool(error_code(answer))) == (status, True), answer.text
    assert journal.counts("sketches", quorum=2)["predictions"] == before


def test_invocations_refuses_wrong_rows_and_other_types(served):
    wrong = [(422, [[1]]), (422, [[1, 2, 3]]), (422, [{"a": 1}]), (422, [["x", "y"]]), (422, ["x"]), (422, [None])]
    for status, rows in wrong:
        answer = served.client.post("/invocations?problem=mushrooms", json={"instances": rows})
        assert (answer.status_code, bool(error_code(answer))) == (status, True), (rows, answer.text)
    csv = served.client.post("/invocations", content=b"a,b\n1,2", headers={"Content-Type": "text/csv"})
    assert (csv.status_code, error_code(csv)) == (415, "unsupported_media")
    assert "a picture is nothing for CSV" in csv.json()["error"]["message"]
    rows = served.client.post(
        "/invocations?problem=mushrooms", content=b"a,b\n1,2", headers={"Content-Type": "text/csv"}
    )
    assert (rows.status_code, error_code(rows)) == (415, "unsupported_media")
    for nothing in ({}, None):
        taken = served.client.post("/invocations?problem=mushrooms", json={"instances": [[3, 1]], "params": nothing})
        assert taken.status_code == 200
    params = served.client.post("/invocations?problem=mushrooms", json={"instances": [[3, 1]], "params": {"top": 3}})
    assert (params.status_code, error_code(params)) == (400, "malformed")
    assert "params must be empty" in params.json()["error"]["message"]
    assert served.client.get("/invocations").status_code == 405
    assert served.client.post("/invocations?problem=pets", json={"instances": ["x"]}).status_code == 503


def test_the_examples_of_the_documentation_run(url, tmp_path, monkeypatch, capsys):
    (tmp_path / "animal.jpg").write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example.replace("http://127.0.0.1:3000", url), "docs/client.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "fingerprint" in printed and printed.count("'") >= 16


def test_mlflows_own_client_is_answered(served):
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", served.port)
    client.wait_server_ready(timeout=30, scoring_server_proc=served.process)
    frame = client.invoke(pd.DataFrame({"image": [base64_of(picture())] * 2})).get_predictions(
        predictions_format="ndarray"
    )
    assert [one["label"] for one in frame] == [served.predict().json()["label"]] * 2
    tensor = np.zeros((3, 64, 64, 3), np.uint8)
    assert len(client.invoke(tensor).get_predictions(predictions_format="ndarray")) == 3
