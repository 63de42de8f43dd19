"""Spans to a collector, by OTLP over HTTP in its JSON form: the exporters of OpenTelemetry's own are not installed
with the service, and every collector takes this.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

logger = logging.getLogger("bentoml.menagerie")

SECONDS = 3.0  # for a collector to take a batch; what it does not take is lost

Json = dict[str, Any]


class OtlpJsonExporter(SpanExporter):
    """Posts batches of spans to `<url>/v1/traces`.

    Args:
        url: of the collector, as `http://127.0.0.1:4318`.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/v1/traces"
        self._client = httpx.Client(timeout=SECONDS, trust_env=False)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Post a batch; never raises."""
        try:
            self._client.post(self._url, json=request_of(spans)).raise_for_status()
        except httpx.HTTPError as error:
            logger.info("%d spans were not taken: %s", len(spans), error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the connection."""
        self._client.close()


def request_of(spans: Sequence[ReadableSpan]) -> Json:
    """ExportTraceServiceRequest, for spans of one resource and one scope."""
    resource = {"attributes": _attributes(spans[0].resource.attributes)} if spans else {}
    scope = {"scope": {"name": "menagerie"}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: ReadableSpan) -> Json:
    context = span.get_span_context()
    assert context is not None, "a span that ended has a context"
    written: Json = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP counts from 1: 0 is unspecified
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": {StatusCode.UNSET: 0, StatusCode.OK: 1, StatusCode.ERROR: 2}[span.status.status_code]},
    }
    if span.parent is not None:
        written["parentSpanId"] = f"{span.parent.span_id:016x}"
    return written


def _attributes(attributes: Mapping[str, Any]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: object) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
