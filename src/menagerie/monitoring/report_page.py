"""Our own part of the report's page: what was decided, what it costs, what moved, and the pictures that did."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from menagerie.monitoring.drift import SIZE, ColumnDrift, DriftResult
from menagerie.monitoring.harm import Estimate
from menagerie.monitoring.hindsight import Hindsight
from menagerie.monitoring.label_shift import ClassShare
from menagerie.monitoring.report_pictures import TURN, MovedPictures, Tile, alarming
from menagerie.records import Decision

NAMED = 8  # columns that are told in words
CLASSES = 12  # of the mix that are shown: those that moved most
STYLE = (
    "<style>section.menagerie{font-family:sans-serif;margin:2rem}.menagerie td,.menagerie th{padding:.2rem 1rem;"
    "text-align:left}.menagerie figure{display:inline-block;margin:.3rem;vertical-align:top;max-width:9rem}"
    ".menagerie figcaption{font-size:.75rem}</style>"
)
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)


def page_of(
    page: str,
    result: DriftResult,
    decision: Decision | None,
    estimate: Estimate | None,
    mix: Sequence[ClassShare],
    tests: tuple[int, int, list[str]],
    pictures: MovedPictures | None,
    past: Sequence[Hindsight],
) -> str:
    """The page with our part on top, forbidden to ask other machines for anything.

    `tests` are Evidently's: how many failed, of how many, and those of which it says something else than we do.
    """
    parts = [
        _verdict(result, decision),
        _accuracy(estimate),
        _past(past),
        _moved(result),
        "" if pictures is None else _pictures(pictures, result.detected),
        _groups(result),
        _mix(mix),
        _agreement(*tests),
    ]
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">{STYLE}'
    body = f'<body><section class="menagerie">{"".join(parts)}</section>'
    return page.replace("<head>", head, 1).replace("<body>", body, 1)


def _verdict(result: DriftResult, decision: Decision | None) -> str:
    verdict = "moved" if result.detected else "not moved" if result.sufficient else "insufficient data"
    sizes = f"{result.window_size} predictions against {result.reference_size} of the reference."
    decided = "" if decision is None else f"<p><b>{escape(decision.action)}</b>: {escape(decision.reason)}</p>"
    return f"<h1>Drift: {verdict}</h1>{decided}<p>{escape(result.reason)}. {sizes}</p>"


def _accuracy(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    interval = f"95 % interval {estimate.low:.1%} to {estimate.high:.1%}"
    lost = f"{100 * estimate.loss:.1f} points ({100 * estimate.loss_low:.1f} to {100 * estimate.loss_high:.1f})"
    return (
        f"<p>Accuracy, estimated without labels: <b>{estimate.accuracy:.1%}</b> ({interval}); on the reference "
        f"{estimate.reference_accuracy:.1%}. Estimated loss: <b>{lost}</b>.</p>"
    )


def _past(past: Sequence[Hindsight]) -> str:
    """Earlier estimates beside what labels of the same predictions say by now."""
    if not past:
        return ""
    rows = "".join(
        f"<tr><td>{one.at:%Y-%m-%d %H:%M}<td>{one.estimated:.1%}"
        f"<td>{one.labelled:.1%} ({one.low:.1%} to {one.high:.1%})<td>{100 * one.error:+.1f} points"
        for one in past
    )
    error = 100 * sum(abs(one.error) for one in past) / len(past)
    told = f"<p>What labels said later of earlier estimates; mean error {error:.1f} points:</p>"
    return f"{told}<table><tr><th>at<th>estimated<th>by labels<th>error{rows}</table>"


def _moved(result: DriftResult) -> str:
    moved = alarming(result)
    if not moved:
        return ""
    said = "".join(f"<li>{escape(in_words(column))}" for column in moved[:NAMED])
    more = f"<li>and {len(moved) - NAMED} more" if len(moved) > NAMED else ""
    return f"<h2>What moved</h2><ul>{said}{more}</ul>"


def in_words(column: ColumnDrift) -> str:
    """How a column moved, in a phrase."""
    if abs(column.shift) < TURN:
        how = "is spread otherwise"
    else:
        how = f"is {'higher' if column.shift > 0 else 'lower'} by {abs(column.shift):.1f} standard deviations"
    return f"{column.name} ({column.group}) {how}: {column.score:.1f} deviations from chance, limit {column.limit:.1f}"


def _groups(result: DriftResult) -> str:
    if not result.groups:
        return ""
    rows = "".join(
        f"<tr><td>{escape(group.name)}<td>{escape(group.worst)}<td>{group.score:.1f}<td>{group.limit:.1f}"
        f"<td>{group.p_value:.4f}"
        for group in result.groups
    )
    apart = f"<p>The group {SIZE} takes no part in the decision.</p>" * any(g.name == SIZE for g in result.groups)
    head = "<tr><th>group<th>moved most<th>deviations from chance<th>limit<th>p"
    return f"<h2>Groups of columns</h2><table>{head}{rows}</table>{apart}"


def _mix(mix: Sequence[ClassShare]) -> str:
    if not mix:
        return ""
    moved = sorted(mix, key=lambda share: -abs(share.window - share.reference))[:CLASSES]
    rows = "".join(
        f"<tr><td>{escape(share.name)}<td>{share.reference:.1%}<td>{share.window:.1%}"
        f"<td>{share.low:.1%} to {share.high:.1%}"
        for share in moved
    )
    left = f"<p>{len(mix) - len(moved)} more classes moved less.</p>" if len(mix) > len(moved) else ""
    head = "<tr><th>class<th>reference<th>window, estimated<th>95 % interval"
    return f"<h2>Mix of classes</h2><table>{head}{rows}</table>{left}"


def _agreement(failed: int, total: int, disagreeing: list[str]) -> str:
    if not total:
        return ""
    others = ", ".join(disagreeing)
    agreed = f"They differ from our verdict in: {escape(others)}." if disagreeing else "Each agrees with our verdict."
    return f"<p>Of Evidently's {total} tests below, {failed} that take part in the decision failed. {agreed}</p>"


def _pictures(pictures: MovedPictures, detected: bool) -> str:
    if not detected:
        return ""
    moved = "".join(map(_figure, pictures.moved)) or "<p>None of the pictures that moved was kept.</p>"
    typical = "".join(map(_figure, pictures.typical))
    return f"<h2>The pictures that moved most</h2>{moved}<h2>Typical of the reference</h2>{typical}"


def _figure(tile: Tile) -> str:
    caption = escape(tile.caption)
    return f'<figure><img src="{tile.uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
