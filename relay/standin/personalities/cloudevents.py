"""A CloudEvents sink in batched mode: it takes a batch as a whole or not at all, and knows repeats by source and id.

The form is from github.com/cloudevents/spec: http-protocol-binding section 3.3 and spec section 3.1. The statuses 415,
429 and 410 are from its http-webhook. What a sink says in its bodies is left to it by the specification.
"""

from typing import Any

import msgspec

from relay.standin.personalities.bearer import TOKEN_PATH, client, grant, refuse_bearer
from relay.standin.personalities.exchange import Callback, PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

_TYPE = "application/cloudevents-batch+json"
_REQUIRED = ("specversion", "id", "source", "type")


class _Event(msgspec.Struct):
    specversion: str = ""
    id: str = ""
    source: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_EVENTS = msgspec.json.Decoder(list[_Event])


class CloudEvents:
    """Takes the events' data as callbacks. With ``bearer=on`` a client needs a token."""

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options)
        self.token_path = TOKEN_PATH if options.bearer else None

    @property
    def account(self) -> str:
        """The credentials that a client needs."""
        return client(self.memory) or "nothing is asked for"

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Hand out a bearer token."""
        return grant(request, self.memory)

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Check type and token, then the batch as a whole."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != _TYPE:
            return PlatformAnswer(415, {"error": f"send {_TYPE}"})
        try:
            events = _EVENTS.decode(request.body)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return PlatformAnswer(400, {"error": f"not a batch of events: {error}"})
        callbacks = tuple(bytes(event.data) for event in events)
        refused = refuse_bearer(request, self.memory)
        if refused is not None:
            return PlatformAnswer(refused.status, refused.body, callbacks, headers=refused.headers, name=refused.name)
        over_s = self.memory.over_s(request, callbacks)
        if over_s is not None:
            return self.over(callbacks, over_s)
        for index, event in enumerate(events):
            refused = self._look(index, event, callbacks)
            if refused is not None:
                return refused
        return self._take(events, callbacks)

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Say 429 and when to come again."""
        return PlatformAnswer.above_limit({"error": "too many requests"}, callbacks, wait_s)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _look(self, index: int, event: _Event, callbacks: tuple[bytes, ...]) -> PlatformAnswer | None:
        missing = next((name for name in _REQUIRED if not getattr(event, name)), None)
        if missing is not None or event.specversion != "1.0":
            return PlatformAnswer(
                400, {"error": f"event {index}: {missing or 'specversion'} is missing or wrong"}, callbacks
            )
        match self.memory.fate(Callback(bytes(event.data), _decoded(event.data))):
            case "refused":
                return PlatformAnswer(422, {"error": f"event {event.id}: this order is not known here"}, callbacks)
            case "later":
                return PlatformAnswer(500, {"error": "try again"}, callbacks)
        return None

    def _take(self, events: list[_Event], callbacks: tuple[bytes, ...]) -> PlatformAnswer:
        taken = []
        for event in events:
            name = f"{event.source} {event.id}"
            if name in self.memory.taken:
                self.memory.counts["duplicate"] += 1
                continue
            self.memory.taken[name] = b""
            taken.append(bytes(event.data))
        return PlatformAnswer(204, b"", callbacks, tuple(taken))


def _decoded(data: msgspec.Raw) -> Any:
    return msgspec.json.decode(data)
