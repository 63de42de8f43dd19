"""A real service between two versions: who answers, who scores beside, what is journaled, and what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from menagerie.artefact import MANIFEST, MODEL, Artefact, load_artefact, sha256
from menagerie.inference.traffic import bucket
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import Served, error_code, make_artefact, make_table_artefact, picture, serve

START = datetime(2026, 1, 1, tzinfo=UTC)
BY = {"who": "test", "why": "test"}
CLIENTS = [f"client-{number}" for number in range(24)]
PATIENT = 120  # seconds of a request: so busy no machine is that a challenger is late in its share of them
BRIGHT, DARK = (250, 250, 250), (90, 90, 90)


def crown(channel: ReleaseChannel, artefact: Artefact, version: str = "1") -> None:
    channel.publish(artefact)
    channel.promote(artefact.manifest.problem, ModelRef(version, artefact.fingerprint), **BY)


def challenge(channel: ReleaseChannel, artefact: Artefact, mode: str, percent: int, version: str = "2") -> None:
    channel.publish(artefact)
    channel.propose("sketches", ModelRef(version, artefact.fingerprint), **BY)
    channel.route("sketches", mode, percent, **BY)  # type: ignore[arg-type]  # a word of the mode


def standing(served: Served, mode: str, percent: int) -> None:
    """Wait until the service routes so."""

    def stands() -> bool:
        model = served.client.get("/model").json()
        return bool((model["mode"], model["percent"]) == (mode, percent))

    served.wait(f"{mode} {percent} %", stands)


def ask(served: Served, client: str | None = None, colour: tuple[int, int, int] = (200, 40, 40)) -> dict:
    answer = served.predict(picture(colour), headers={"X-Client-Id": client} if client else {})
    assert answer.status_code == 200, answer.text
    return answer.json()


def metric(served: Served, name: str, label: str = "") -> float:
    """The sum of a metric's samples, of those with a label like `variant="shadow"` where one is named."""
    lines = served.client.get("/metrics").text.splitlines()
    lines = [line for line in lines if line.startswith(name) and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def hashed(client: str) -> str:
    return hashlib.sha256(f"id:{client}".encode()).hexdigest()


def blinded_by_light(folder: Path) -> Artefact:
    """A model that gives its probe what it should, and NaN for bright pictures."""
    made = make_artefact(folder, seed=1)
    model = onnx.load(folder / MODEL)
    (last,) = [node for node in model.graph.node if "logits" in node.output]
    last.output[0] = "good"
    numbers = {"last": np.array([1], np.int64), "limit": np.float32(3.5), "nothing": np.float32(0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(one), name) for name, one in numbers.items())
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["embedding", "last"], ["brightest"], keepdims=1),  # mean colours / 64
            helper.make_node("Sub", ["limit", "brightest"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
            helper.make_node("Mul", ["root", "nothing"], ["zero"]),
            helper.make_node("Add", ["good", "zero"], ["logits"]),
        ]
    )
    onnx.save(model, folder / MODEL)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][MODEL] = sha256(made.model_path)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return load_artefact(folder)


def test_a_split_is_sticky_grows_and_ends_with_a_promotion_and_back(tmp_path, home, channel, journal):
    first, second = make_artefact(tmp_path / "1"), make_artefact(tmp_path / "2", size=32, seed=1)
    crown(channel, first)

    def who(percent: int) -> dict[str, str]:
        """Who answers whom, after a look at what should be."""
        found = {}
        for client in CLIENTS:
            model = ask(served, client)["model"]
            wanted = "challenger" if bucket(second.fingerprint, hashed(client)) < percent else "champion"
            assert (model["variant"], model["version"]) == (wanted, "2" if wanted == "challenger" else "1")
            assert model["fingerprint"] == (second if wanted == "challenger" else first).fingerprint
            found[client] = wanted
        return found

    with serve(home, request_seconds=PATIENT) as served:
        assert served.client.get("/model").json()["challenger"] is None
        challenge(channel, second, "split", 25)
        standing(served, "split", 25)
        at_25 = who(25)
        assert who(25) == at_25 and len(set(at_25.values())) == 2
        channel.route("sketches", "split", 75, **BY)
        standing(served, "split", 75)
        at_75 = who(75)
        assert all(at_75[client] == "challenger" for client, by in at_25.items() if by == "challenger")
        colours = [(9 * number, 40, 40) for number in range(16)]
        texts = [base64.b64encode(picture(colour)).decode() for colour in colours]
        answers = served.client.post("/predict", json={"images": texts}).json()["predictions"]
        for raw, answer in zip(map(picture, colours), answers, strict=True):  # without a name each goes by its hash
            inside = bucket(second.fingerprint, hashlib.sha256(raw).hexdigest()) < 75
            assert answer["model"]["variant"] == ("challenger" if inside else "champion")
        key = next(one for one in answers if one["model"]["variant"] == "challenger")["prediction_id"]
        said = served.client.post("/feedback", json={"prediction_id": key, "label": "cat"})
        assert said.json() == {"status": "added"}
        given = [*at_25.values(), *at_25.values(), *at_75.values(), *(one["model"]["variant"] for one in answers)]
        assert metric(served, "menagerie_predictions_total", 'variant="challenger"') == given.count("challenger")
        channel.promote("sketches", ModelRef("2", second.fingerprint), **BY)
        served.wait("version 2", lambda: served.serves("2"))
        assert {ask(served, client)["model"]["variant"] for client in CLIENTS} == {"champion"}
        channel.rollback("sketches", **BY)
        served.wait("version 1", lambda: served.serves("1"))
        model = served.client.get("/model").json()
        assert (model["mode"], model["percent"], model["challenger"]) == ("champion", 0, None)
        assert ask(served, CLIENTS[0])["model"]["version"] == "1"
    seen = Counter((one.version, one.variant) for one in journal.recent("sketches", 500))
    assert seen["1", "champion"] and seen["2", "challenger"] and seen["2", "champion"] == len(CLIENTS)
    assert (
        journal.variants("sketches", [second.fingerprint], since=channel.history("sketches")[-1].at, quorum=2)[
            0
        ].failures
        == 0
    )


def test_a_shadow_scores_what_the_champion_answers_and_answers_nobody(tmp_path, home, channel, journal):
    first, second = make_artefact(tmp_path / "1"), make_artefact(tmp_path / "2", seed=1)
    crown(channel, first)
    with serve(home, request_seconds=PATIENT, trusted_labellers="keeper", keep_pictures="all") as served:
        challenge(channel, second, "shadow", 100)
        standing(served, "shadow", 100)
        colours = [(11 * number, 90, 240 - 11 * number) for number in range(20)]
        answers = {colour: ask(served, colour=colour) for colour in colours}
        assert {one["model"]["variant"] for one in answers.values()} == {"champion"}

        def shadows() -> int:
            figures = served.client.get("/stats").json()["variants"]["figures"]
            return next((one["requests"] for one in figures if one["variant"] == "shadow"), 0)

        served.wait("all shadows", lambda: shadows() == len(colours))
        assert metric(served, "menagerie_shadows_dropped_total") == 0
        assert metric(served, "menagerie_predictions_total", 'variant="shadow"') == len(colours)
        since = channel.history("sketches")[0].at
        pairs = journal.paired("sketches", first.fingerprint, second.fingerprint, since=since, quorum=2)
        said = Counter(zip(pairs.champion, pairs.challenger, strict=True))
        assert len(pairs) == len(colours) and len(said) > 1
        for answer in answers.values():  # the champion is right
            told = {"prediction_id": answer["prediction_id"], "label": answer["label"]}
            served.client.post("/feedback", json=told, headers={"X-Client-Id": "keeper"}).raise_for_status()
        stats = served.client.get("/stats").json()
        compared = stats["variants"]
        assert (compared["mode"], compared["percent"], compared["reason"]) == ("shadow", 100, None)
        assert compared["since"] == since.isoformat()
        differing = sum(count for (one, other), count in said.items() if one != other)
        assert compared["test"]["test"] == "mcnemar"
        assert compared["test"]["counts"]["champion_alone_right"] == differing > 0
        assert compared["test"]["difference"] == pytest.approx(-differing / len(colours))
        assert compared["test"]["p"] == pytest.approx(min(1.0, 2 * 0.5**differing))
        described = served.client.get("/docs.json").json()["components"]
        for name, found in (("Stats", stats), ("Model", served.client.get("/model").json())):
            jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": described}).validate(
                found
            )
        champion, shadow = sorted(compared["figures"], key=lambda one: one["variant"])
        assert (champion["variant"], champion["right"], champion["labelled"]) == ("champion", 20, 20)
        assert (shadow["variant"], shadow["version"], shadow["labelled"]) == ("shadow", "2", 0)
        assert 0 < shadow["latency_p50_ms"] < 5000
        assert (stats["predictions"], stats["by_version"]) == (20, {"1": 20})
        lines = served.client.get("/predictions", params={"limit": 100}).json()["predictions"]
        assert {line["prediction_id"] for line in lines} == {one["prediction_id"] for one in answers.values()}
        with journal._database.reading() as connection:
            found = connection.exec_driver_sql("SELECT id FROM predictions WHERE variant = 'shadow'").scalars().all()
        assert len(set(found) - {line["prediction_id"] for line in lines}) == 20
        refused = served.client.post("/feedback", json={"prediction_id": found[0], "label": "cat"})
        assert (refused.status_code, error_code(refused)) == (404, "not_found")
        channel.withdraw("sketches", **BY)
        standing(served, "champion", 0)
        assert served.client.get("/model").json()["challenger"] is None
        assert served.client.get("/stats").json()["variants"]["reason"] == "there is no challenger"
    assert len(list((home / "pictures").rglob("*.*"))) == len(colours)
    assert len(journal.window("sketches", second.fingerprint, limit=100)) == 0


def test_what_a_challenger_cannot_do_no_client_sees(tmp_path, home, channel, journal):
    first, blinded = make_artefact(tmp_path / "1"), blinded_by_light(tmp_path / "blinded")
    crown(channel, first)
    with serve(home, request_seconds=PATIENT) as served:
        broken = make_artefact(tmp_path / "nan", constant=float("nan"))
        table = make_table_artefact(tmp_path / "table", problem="sketches")
        for artefact, trouble in ((broken, "version 2 is refused"), (table, "another kind")):
            challenge(channel, artefact, "split", 50)
            served.wait(trouble, lambda: trouble in _trouble(served))  # noqa: B023  (it is called at once)
            model = served.client.get("/model").json()
            assert (model["challenger"]["ready"], model["degraded"], model["percent"]) == (False, False, 0)
            assert {ask(served, client)["model"]["variant"] for client in CLIENTS} == {"champion"}
        challenge(channel, blinded, "split", 50, version="3")
        standing(served, "split", 50)
        challenger = {"version": "3", "fingerprint": blinded.fingerprint, "ready": True, "trouble": None}
        assert served.client.get("/model").json()["challenger"] == challenger
        chosen = [client for client in CLIENTS if bucket(blinded.fingerprint, hashed(client)) < 50]
        for client in CLIENTS:
            assert ask(served, client, BRIGHT)["model"]["variant"] == "champion"
            dark = ask(served, client, DARK)["model"]["variant"]
            assert dark == ("challenger" if client in chosen else "champion")

        def failures() -> int:
            figures = served.client.get("/stats").json()["variants"]["figures"]
            return next((one["failures"] for one in figures if one["variant"] == "challenger"), 0)

        served.wait("the failures", lambda: failures() == len(chosen))
        assert metric(served, "menagerie_challenger_failures_total") == len(chosen) > 0
        channel.route("sketches", "shadow", 100, **BY)
        standing(served, "shadow", 100)
        assert ask(served, colour=BRIGHT)["model"]["variant"] == "champion"
        served.wait("another", lambda: metric(served, "menagerie_challenger_failures_total") == len(chosen) + 1)
    (failed,) = [
        one for one in journal.variants("sketches", [blinded.fingerprint], since=START, quorum=2) if one.failures > 1
    ]
    assert (failed.variant, failed.version, failed.requests) == ("challenger", "3", 2 * len(chosen))


def _trouble(served: Served) -> str:
    return (served.client.get("/model").json()["challenger"] or {}).get("trouble") or ""
