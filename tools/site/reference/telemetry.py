"""Every metric, from what a scrape shows, and every event of the log, from the methods that write it."""

import ast
import inspect
from collections.abc import Iterator
from typing import NamedTuple

from relay.telemetry import events
from relay.telemetry.metrics import Metrics
from relay.telemetry.ownership_figures import OwnershipFigures
from relay.views.ledger import QueueTotals
from relay.views.queue import HistorySize, StoreSize
from tools.site.reference.words import Words, code, prose, table


def metrics_page(words: Words) -> str:
    """Return the page of metrics."""
    rows = []
    for name, kind, labels, about in sorted(_families()):
        rows.append((code(name), kind, ", ".join(map(code, labels)), prose(words.of(about))))
    return table(words["name|type|labels|meaning", "名字|类型|标签|意思"].split("|"), rows)


def _families() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    metrics = Metrics()
    metrics.ownership = OwnershipFigures(dict, int, lambda: HistorySize(0, 0), lambda: 0)
    metrics.descriptors, metrics.reload_successful = (0, 0), 1
    size = StoreSize(used_bytes=0, max_bytes=0, usable_bytes=0, full=False)
    metrics.snapshot(totals={"": QueueTotals()}, statuses={}, size=size, live={}, now=0.0)
    for family in metrics.collect():
        ending = "_total" if family.type == "counter" else ""
        yield family.name + ending, family.type, tuple(getattr(family, "_labelnames", ())), family.documentation


ERROR_FIELDS = ("error", "detail", "where", "cause")
"""What ``telemetry.failure.describe`` tells of an exception."""


class Event(NamedTuple):
    """An event of the log."""

    name: str
    levels: str
    fields: tuple[str, ...]
    about: str


_BESIDE = (
    Event("log_lines_dropped", "error", ("lines",), "Nobody read the log for a while, and so many lines were dropped."),
    Event(
        "library",
        "warning, error",
        ("logger", "message", *ERROR_FIELDS),
        "A library's own words.",
    ),
)
"""What is written by no method of ``Events`` (telemetry/logging.py)."""


def events_page(words: Words) -> str:
    """Return the page of log events."""
    rows = [
        (code(event.name), event.levels, ", ".join(map(code, event.fields)), prose(words.of(event.about)))
        for event in sorted((*log_events(), *_BESIDE))
    ]
    return table(words["event|level|fields|meaning", "事件|级别|字段|意思"].split("|"), rows)


def log_events() -> Iterator[Event]:
    """Yield each event that a method of ``Events`` writes; what it means is the method's docstring."""
    for method in ast.walk(ast.parse(inspect.getsource(events))):
        if not isinstance(method, ast.FunctionDef) or not (about := ast.get_docstring(method)):
            continue
        called = {
            name.id: [each.attr for each in ast.walk(assigned.value) if _is_level(each)]
            for assigned in ast.walk(method)
            if isinstance(assigned, ast.Assign)
            for name in assigned.targets
            if isinstance(name, ast.Name)
        }
        for call in ast.walk(method):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            levels = [call.func.attr] if _is_level(call.func) else called.get(getattr(call.func, "id", ""), [])
            names = [each.value for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant)]
            for name in names if levels else ():
                yield Event(name, ", ".join(dict.fromkeys(levels)), tuple(_fields(call)), about)


def _fields(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg:
            yield keyword.arg
        elif "_asdict" in ast.unparse(keyword.value):
            yield from events.LimitReport._fields
        elif "describe" in ast.unparse(keyword.value):
            yield from ERROR_FIELDS


def _is_level(node: ast.AST) -> bool:
    """Tell whether this is ``self._log.info`` or another level."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "_log"
