"""Mixpanel's /import with strict=1: a 400 names the bad events, the others are imported; $insert_id marks repeats.

Bodies: docs.mixpanel.com/troubleshooting/errors/400-bad-request.md and .../413-payload-too-large.md.
"""

from relay.core.raw import JsonObject
from relay.standin.bodies import MalformedBody, split_items
from relay.standin.personalities.exchange import Callback, PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

_MOST_EVENTS = 2000
_MOST_BYTES = 10_000_000


class MixpanelImport:
    """Knows an event by its $insert_id. ``app_id`` is the service account."""

    token_path = None

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options)

    @property
    def account(self) -> str:
        """The credentials that a client needs."""
        options = self.memory.options
        return f"user {options.app_id}, password {options.secret}"

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Answer 404: this platform has no tokens."""
        return _answer(404, "Not Found", "no such path")

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Check the account and the sizes, then each event."""
        try:
            events = tuple(split_items(request.body, content_type=request.headers.get("content-type", "")))
        except MalformedBody:
            return _answer(400, "Bad Request", "the request body is not valid JSON")
        options = self.memory.options
        if request.basic() != f"{options.app_id}:{options.secret}":
            self.memory.counts["bad_signature"] += 1
            return _answer(401, "Unauthorized", "Invalid credentials", events)
        over_s = self.memory.over_s(request, events)
        if over_s is not None:
            return self.over(events, over_s)
        if len(events) > _MOST_EVENTS:
            return _answer(
                413, "Request Entity Too Large", f"request exceeds max limit of {_MOST_EVENTS} events", events
            )
        if len(request.body) > _MOST_BYTES:
            return _answer(413, "Request Entity Too Large", f"request exceeds max limit of {_MOST_BYTES} bytes", events)
        return self._import(events)

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Say 429 and when to come again."""
        answer = _answer(429, "Too Many Requests", "Exceeded rate limit", callbacks)
        return PlatformAnswer.above_limit(answer.body, callbacks, wait_s)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _import(self, events: tuple[bytes, ...]) -> PlatformAnswer:
        failed: list[JsonObject] = []
        taken = []
        for index, raw in enumerate(events):
            callback = Callback.of(raw)
            fields = callback.fields if isinstance(callback.fields, dict) else {}
            properties = fields.get("properties")
            insert_id = properties.get("$insert_id") if isinstance(properties, dict) else None
            field, why = "properties.$insert_id", "'properties.$insert_id' is invalid: must not be missing"
            if isinstance(insert_id, str) and insert_id:
                if self.memory.fate(Callback(raw, properties)) == "taken":
                    if insert_id in self.memory.taken:
                        self.memory.counts["duplicate"] += 1  # imported once: a repeat is no error
                        continue
                    self.memory.taken[insert_id] = raw
                    taken.append(raw)
                    continue
                field = "properties.time"
                why = "'properties.time' is invalid: must be specified as seconds since epoch"
            failed.append({"index": index, "insert_id": insert_id or "", "field": field, "message": why})
        imported = len(events) - len(failed)
        if not failed:
            return PlatformAnswer(
                200, {"code": 200, "num_records_imported": imported, "status": "OK"}, events, tuple(taken)
            )
        body = {
            "code": 400,
            "error": "some data points in the request failed validation",
            "status": "Bad Request",
            "num_records_imported": imported,
            "failed_records": failed,
        }
        return PlatformAnswer(400, body, events, tuple(taken), name=f"400 {len(failed)} of {len(events)} failed")


def _answer(status: int, word: str, error: str, callbacks: tuple[bytes, ...] = ()) -> PlatformAnswer:
    return PlatformAnswer(status, {"code": status, "error": error, "status": word}, callbacks)
