"""Turns samples into a series: one row for each step, the running one last, null where the relay was down."""

from collections.abc import Iterable
from typing import Final

from relay.admin.filters import InvalidFilter
from relay.views.moments import Instant
from relay.views.past.history import COLUMNS, Sampled, SeriesView, together

STEPS: Final = {"5s": 5, "1m": 60, "10m": 600, "1h": 3600}
LONGEST_5S_S: Final = 15 * 60.0  # what memory holds of 5 s samples
_MOST_ROWS = 20_000  # 13 days of minutes; more is no chart any more


def read_step(text: str) -> int:
    """Return the seconds of a step. Raises 400 ``invalid_filter`` for one that is not offered."""
    if text not in STEPS:
        raise InvalidFilter("step", f"unknown step '{text[:20]}'; there are: {', '.join(STEPS)}")
    return STEPS[text]


def check_begun(since: float, now: float) -> None:
    """Raise 400 ``invalid_filter`` for a span that has not begun."""
    if since > now:
        raise InvalidFilter("since", "'since' is in the future: give an age such as 2h, or a time that is over")


def check_span(since: float, now: float, step_s: int) -> None:
    """Raise 400 ``invalid_filter`` for a span that has not begun, or that is too long for its step."""
    check_begun(since, now)
    if (now - since) / step_s > _MOST_ROWS:
        detail = f"'since' asks for more than {_MOST_ROWS} rows: take a longer step ({', '.join(STEPS)})"
        raise InvalidFilter("since", detail)


def series(spans: Iterable[Sampled], *, since: float, now: float, step_s: int) -> SeriesView:
    """Return the row of each step from that of ``since`` to the running one.

    Of several minutes in a step the counts are summed; ``pending`` is that of the last, ``oldest_due_s`` the longest.
    """
    first, last = int(since // step_s), int(now // step_s)
    steps: dict[int, list[Sampled]] = {}
    for span in spans:
        steps.setdefault(int(span.at // step_s), []).append(span)
    nothing: list[int | float | None] = [None] * len(COLUMNS)
    return SeriesView(
        step_s=step_s,
        start=Instant(first * step_s),
        columns=list(COLUMNS),
        rows=[
            _row(together(step * step_s, steps[step])) if step in steps else nothing for step in range(first, last + 1)
        ],
    )


def _row(span: Sampled) -> list[int | float | None]:
    counts = span.counts
    return [
        *(span.accepted, span.delivered, span.dead, span.expired, span.superseded),
        *(counts.requests, counts.refused, counts.failed),
        *(span.pending, span.oldest_due_s),
        *(counts.raw_bytes, counts.wire_bytes),
    ]
