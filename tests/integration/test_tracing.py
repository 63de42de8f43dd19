"""Tracing: off unless it is asked for; then a real service tells a collector where the time of its requests went."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from menagerie.journal import Journal
from menagerie.records import ModelRef
from menagerie.releases import ReleaseChannel
from tests.helpers import ROOT, make_artefact, picture, serve

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes OTLP over HTTP; holds the spans that came, by name."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *ignored: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for _, _, body in self.requests
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def release(home: Path) -> None:
    artefact = make_artefact(home / "made")
    journal = Journal(f"sqlite:///{home / 'journal.db'}", home / "spool-of-the-test")
    channel = ReleaseChannel(f"file://{home / 'releases'}", journal)
    channel.publish(artefact)
    channel.promote("sketches", ModelRef("1", artefact.fingerprint), who="test", why="test")
    journal.close()


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_a_collector_gets_a_span_for_each_request_and_what_took_its_time(tmp_path, collector, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")  # as a built Bento has it
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=animals")
    release(tmp_path)
    caller = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    with serve(tmp_path, tracing_url=collector.url) as served:
        answer = served.predict(headers=caller)
        assert answer.status_code == 200
        assert served.predict(b"<svg/>").status_code == 415
        assert served.predict(picture(side=1100)).status_code == 200
        assert served.client.get("/nobody/serves/this").status_code == 404
        served.client.get("/livez")
    assert {(path, kind) for path, kind, _ in collector.requests} == {("/v1/traces", "application/json")}
    spans = collector.spans()
    good, bad, large = [span for span in spans if span["name"] == "POST /predict"]
    assert (good["traceId"], good["parentSpanId"], good["kind"], good["status"]["code"]) == (TRACE, CALLER, 2, 0)
    about = attributes(good)
    assert about["http.response.status_code"] == "200" and about["http.route"] == "/predict"
    assert about["menagerie.request_id"] == answer.headers["X-Request-Id"]
    parts = [span for span in spans if span.get("parentSpanId") == large["spanId"]]
    assert [span["name"] for span in parts] == ["decode", "batch", "journal"]
    moments = [int(span[edge]) for span in parts for edge in ("startTimeUnixNano", "endTimeUnixNano")]
    assert moments == sorted(moments), "one after the other"
    parts = [span for span in spans if span.get("parentSpanId") == good["spanId"]]
    assert [span["name"] for span in parts] == ["batch", "journal"], "what is light is read in its batch, traced or not"
    moments = [int(span[edge]) for span in parts for edge in ("startTimeUnixNano", "endTimeUnixNano")]
    assert moments == sorted(moments), "one after the other"
    assert int(good["startTimeUnixNano"]) <= moments[0] and moments[-1] <= int(good["endTimeUnixNano"])
    assert attributes(parts[0]) == {
        "menagerie.problem": "sketches",
        "menagerie.version": "1",
        "menagerie.variant": "champion",
    }
    assert attributes(parts[1]) == {"menagerie.journaled": True}
    assert attributes(bad)["http.response.status_code"] == "415" and "parentSpanId" not in bad
    assert [span["name"] for span in spans if span.get("parentSpanId") == bad["spanId"]] == ["decode"]
    assert len(spans) == 9, "none of what nobody serves, none of the framework's"
    (resource,) = {json.dumps(body["resourceSpans"][0]["resource"]) for _, _, body in collector.requests}
    assert attributes(json.loads(resource)).items() >= {("service.name", "menagerie"), ("team", "animals")}


def test_the_name_of_the_service_can_be_chosen(monkeypatch):
    from bento.tracing import open_provider

    monkeypatch.setenv("OTEL_SERVICE_NAME", "keeper")
    provider = open_provider("http://127.0.0.1:9")
    provider.shutdown()
    assert provider.resource.attributes["service.name"] == "keeper"


def test_a_collector_that_is_away_costs_no_answer(tmp_path):
    release(tmp_path)
    with serve(tmp_path, tracing_url="http://127.0.0.1:9") as served:
        assert [served.predict(picture()).status_code for _ in range(3)] == [200] * 3


def test_off_means_not_even_imported():
    code = (
        "import asyncio, sys, bento.service as service\n"
        "from bento.middleware import request_id\n"
        "service.front.open(service.Classifier.inner().host, None, None)\n"
        "print(*[name for name in sys.modules if name in ('bento.tracing', 'bento.otlp', 'bento.middleware.trace')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
