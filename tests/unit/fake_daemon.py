"""A daemon for tests of commands that start operations."""

from typing import Any

from relay.cli.support.client import Client


class FakeDaemon(Client):
    """Answers as the admin listener does, and keeps what it was asked; ``path`` is the route that starts operations."""

    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1:9")
        self.path = path
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Answer that the daemon lives."""
        assert path == "/livez"

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Start an operation over three callbacks, and be done with it."""
        assert path == self.path
        self.asked.append(body)
        action = body.get("action", "forget")
        if body.get("dry_run"):
            return {"action": action, "dry_run": True, "matched": 3}
        return {
            "id": 1,
            "action": action,
            "state": "done",
            "matched": 3,
            "done": 3,
            "skipped": {},
            "failed": [],
            "waiting": 0,
            "filter": body["filter"] if "filter" in body else {"key": body["key"]},
            "options": {},
            "started_at": "2026-11-22T10:02:11.123Z",
            "finished_at": "2026-11-22T10:02:11.125Z",
        }
