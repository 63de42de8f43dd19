"""An answer of a registered version, with the picture of what spoke for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from menagerie.errors import ConfigurationError
from menagerie.evaluation.plots_saliency import draw_saliency
from menagerie.explaining import overlay, saliency
from menagerie.inference.confidence import Confidence
from menagerie.inference.runtime import load_runtime
from menagerie.kinds import make_kind
from menagerie.problems import Problem
from menagerie.settings import get_settings
from menagerie.tracking import versions


@dataclass(frozen=True)
class Explained:
    """What a version answered, and a PNG of why."""

    version: str
    label: str
    confidence: float
    png: bytes


def explain_picture(problem: Problem, version: str, raw: bytes) -> Explained:
    """Ask a version, in the serving runtime, and draw what spoke for its label.

    Args:
        problem: One that takes pictures.
        version: A number or an alias.
        raw: The bytes of a picture, as a client would send them.

    Raises:
        ConfigurationError: the problem takes no pictures, or the registry has no such version.
        ArtefactError: what the registry holds is not what was registered.
        UnsupportedMedia, UnusableInput: not a picture that can be answered.
    """
    if problem.kind != "image":
        raise ConfigurationError(f"{problem.name} takes rows, not pictures: there are no places to show")
    ref = versions.version_of(problem, version)
    if ref is None:
        raise ConfigurationError(f"{problem.registered_model} has no version {version}: train one first")
    cache = get_settings().home / "cache" / "versions"
    artefact, _ = versions.download(problem, ref, cache)
    graph = versions.download_explaining(problem, ref, cache)
    kind = make_kind(artefact.manifest.input)
    seen = kind.preprocess(kind.decode(raw))
    logits = load_runtime(artefact)(np.ascontiguousarray(seen[None])).logits
    probabilities = Confidence.from_manifest(artefact.manifest).probabilities(logits)[0]
    index = int(probabilities.argmax())
    label, confidence = artefact.manifest.classes[index], float(probabilities[index])
    heat = overlay(seen, saliency(graph, seen)[index])
    png = draw_saliency(seen, heat, f"{label}, {confidence:.1%} ({problem.name}, version {ref.version})")
    return Explained(ref.version, label, confidence, png)
