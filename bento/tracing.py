"""What is there where MENAGERIE_TRACING_URL is set, and not even imported where it is not: a span for each request,
with what took its time below it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from bento.host import Host
from bento.otlp import OtlpJsonExporter
from menagerie.inference.predictor import Answer, Input, Predictor
from menagerie.inference.reading import Unread
from menagerie.settings import Settings

T = TypeVar("T")


def open_provider(url: str) -> TracerProvider:
    """What makes spans and sends them to a collector, off the hot path. OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER and OTEL_BSP_* hold as OpenTelemetry says."""
    named = Resource.create({"service.name": "menagerie"}).merge(OTELResourceDetector().detect())  # variables win
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OtlpJsonExporter(url)))
    return provider


class TracedHost(Host):
    """A host that tells where the time of a request goes: `decode`, `batch` (waiting for it, and the model) and
    `journal` (from the model's numbers to the answer: the commit and the way back)."""

    def __init__(self, settings: Settings, packed: Path, url: str) -> None:
        super().__init__(settings, packed)
        self._provider = open_provider(url)
        self.tracer: trace.Tracer = self._provider.get_tracer("menagerie")

    async def stop(self) -> None:
        """As the host; then send the spans that are left."""
        await super().stop()
        await asyncio.to_thread(self._provider.shutdown)

    async def decode(self, work: Callable[..., T], *arguments: object) -> T:
        """As the host, in a span."""
        with self.tracer.start_as_current_span("decode"):
            return await super().decode(work, *arguments)

    def _read_in_batch(self, raw: bytes) -> bool:
        return False  # so that `decode` has its span

    async def _run(self, predictor: Predictor, one: Input | Unread) -> Answer:
        asked = time.time_ns()
        answer = await super()._run(predictor, one)
        answered = time.time_ns()
        since = (time.perf_counter() - one.began) * 1000 - answer.latency_ms  # its latency ends before it is journaled
        computed = max(asked, answered - int(since * 1e6))
        about = {
            "menagerie.problem": predictor.problem,
            "menagerie.version": predictor.ref.version,
            "menagerie.variant": predictor.variant,
        }
        self._span("batch", asked, computed, about)
        self._span("journal", computed, answered, {"menagerie.journaled": answer.journaled})
        return answer

    def _span(self, name: str, start: int, end: int, about: dict[str, Any]) -> None:
        self.tracer.start_span(name, start_time=start, attributes=about).end(end)
