"""What the summary of a comparison comes to: for alerts, metrics and operators; plain functions."""

from datetime import UTC, datetime

from relay.alerts.facts import ReconcileFacts
from relay.core.raw import JsonObject
from relay.reconcile.preparing import Window
from relay.reconcile.results import ProblemLine, RunSummary


def began(name: str) -> float:
    """Return when a run began, in seconds since 1970: its name says so."""
    return datetime.strptime(name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()


def is_complete(summary: RunSummary | None) -> bool:
    """Return whether there is a summary, of a run that read both sides whole."""
    return summary is not None and bool(summary["complete"])


def differing(summary: RunSummary) -> int:
    """Return in how many orders the sides differ, unsettled ones aside."""
    return sum(count for kind, count in summary["counts"].items() if kind != "unsettled")


def facts_of(summary: RunSummary) -> ReconcileFacts:
    """Return what alerts are told of a run."""
    results = summary.get("verified", {}).get("counts", {})
    repaired = results.get("repaired", 0)
    return ReconcileFacts(
        differing(summary),
        _trouble(summary),
        run=str(summary["run"]),
        sent=summary.get("repair", {}).get("sent", 0),
        repaired=repaired,
        unrepaired=sum(results.values()) - repaired,
    )


def _trouble(summary: RunSummary) -> str:
    if "failed" in summary:
        return "failed"
    if not summary["complete"]:
        return "incomplete"
    made = summary.get("repair", {})
    return "unrepaired" if made.get("refused") and made.get("unasked") else ""


def told_of(summary: RunSummary) -> JsonObject:
    """Return a summary as operators see it, with how the run ended."""
    return {**summary, "state": "failed" if "failed" in summary else "done"}


def failure(platform: str, name: str, window: Window, error: str) -> RunSummary:
    """Return the summary of a run that came to no end, for the reason ``error``."""
    since, until = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}.000Z" for at in window)
    problem: ProblemLine = {"side": "relay", "place": "run", "text": error}
    return {
        "run": name, "platform": platform, "since": since, "until": until, "complete": False,
        "read": {"order_center": 0, "platform": 0}, "agree": 0, "counts": {}, "sides": {}, "problems": [problem],
        "failed": error,
    }  # fmt: skip
