"""The rows of the table - what, bar, goal - and how figures are compared with them and shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``higher`` is better, or lower."""

    number: str
    what: str
    unit: str
    bar: float
    goal: float
    higher: bool


# "x" is a ratio: callbacks per second over the requests per second of the bare handler, or over a peer's callbacks.
ROWS = (
    Row("1", "durable accept, one callback per POST, over a bare aiohttp handler without a store", "x", 1, 1.3, True),
    Row("2", "the same over fastify + BullMQ with appendfsync always", "x", 1.1, 1.4, True),
    Row("3", "NDJSON accept, durable, over the bare handler", "x", 9, 12, True),
    Row("4", "accept -> delivered, no quota, batches of 500, gzip, over the bare handler", "x", 3.5, 5, True),
    Row("4b", "the same over BullMQ workers", "x", 6, 10, True),
    Row("4c", "the same over syslog-ng, which syncs nothing", "x", 0.5, 0.7, True),
    Row("5a", "added latency on an idle platform, p50", "ms", 4, 2, False),
    Row("5b", "added latency on an idle platform, p99", "ms", 10, 4, False),
    Row("6", "steady 50/s into 100/min, p99 accept -> arrival", "s", 0.75, 0.65, False),
    Row("7", "slots used under backlog with 100/min", "%", 99, 100, True),
    Row("8", "resident memory with 1,000,000 pending", "MB", 125, 100, False),
    Row("9", "start to ready with 1,000,000 pending", "s", 1, 0.5, False),
    Row("10a", "durable accept through Valkey, which syncs each write, one per POST, over SQLite", "x", 0.5, 0.7, True),
    Row("10b", "NDJSON accept through the same Valkey, over SQLite", "x", 0.5, 0.7, True),
)
BY_NUMBER = {row.number: row for row in ROWS}


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for a row, and in words how."""

    number: str
    here: float
    how: str

    @property
    def met(self) -> str:
        """Whether the figure reaches the goal, the bar or neither."""
        row = BY_NUMBER[self.number]
        better = self.here.__ge__ if row.higher else self.here.__le__
        return "goal" if better(row.goal) else "bar" if better(row.bar) else "no"

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        row = BY_NUMBER[self.number]
        return {
            "row": row.number,
            "what": row.what,
            "unit": row.unit,
            "bar": row.bar,
            "goal": row.goal,
            "here": round(self.here, 4),
            "met": self.met,
            "how": self.how,
        }


def show(figures: Sequence[Figure]) -> str:
    """Return the table as Markdown, the notes below it."""
    lines = ["| # | what | bar | goal | here | met |", "|---|---|---|---|---|---|"]
    for figure in figures:
        row = BY_NUMBER[figure.number]
        sign = ">=" if row.higher else "<="
        bar, goal, here = (_number(value, row.unit) for value in (row.bar, row.goal, figure.here))
        lines.append(f"| {row.number} | {row.what} | {sign} {bar} | {sign} {goal} | {here} | {figure.met} |")
    return "\n".join([*lines, "", *(f"{figure.number}: {figure.how}" for figure in figures)])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of ``values`` do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1)]


def _number(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 20 else 2
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"
