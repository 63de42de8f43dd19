"""What is there where MENAGERIE_TRACING_URL is set, and not even imported where it is not: a span for each request,
with what took its time below it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bento.answering import Spans
from bento.host import Host
from bento.otlp import OtlpJsonExporter
from menagerie.inference.predictor import Answer, Predictor
from menagerie.settings import Settings


def open_provider(url: str) -> TracerProvider:
    """What makes spans and sends them to a collector, off the hot path. OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER and OTEL_BSP_* hold as OpenTelemetry says."""
    named = Resource.create({"service.name": "menagerie"}).merge(OTELResourceDetector().detect())  # variables win
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OtlpJsonExporter(url)))
    return provider


class RequestSpans(Spans):
    """Tells where the time of a request goes: `decode`, `batch` (waiting for it, the model, and the reading of what is
    light) and `journal` (from the model's numbers to the answer: the commit and the way back)."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def reading(self) -> AbstractContextManager[object]:
        """A span around it."""
        return self._tracer.start_as_current_span("decode")

    def ran(self, predictor: Predictor, answer: Answer, asked: int, began: float) -> None:
        """Two spans, from what is known now."""
        answered = time.time_ns()
        since = (time.perf_counter() - began) * 1000 - answer.latency_ms  # its latency ends before it is journaled
        computed = max(asked, answered - int(since * 1e6))
        about = {
            "menagerie.problem": predictor.problem,
            "menagerie.version": predictor.ref.version,
            "menagerie.variant": predictor.variant,
        }
        self._span("batch", asked, computed, about)
        self._span("journal", computed, answered, {"menagerie.journaled": answer.journaled})

    def _span(self, name: str, start: int, end: int, about: dict[str, Any]) -> None:
        self._tracer.start_span(name, start_time=start, attributes=about).end(end)


class TracedHost(Host):
    """A host whose requests have spans. They go no other way than those of any host."""

    def __init__(self, settings: Settings, packed: Path, url: str) -> None:
        self._provider = open_provider(url)
        self.tracer: trace.Tracer = self._provider.get_tracer("menagerie")
        super().__init__(settings, packed, RequestSpans(self.tracer))

    async def stop(self) -> None:
        """As the host; then send the spans that are left."""
        await super().stop()
        await asyncio.to_thread(self._provider.shutdown)
