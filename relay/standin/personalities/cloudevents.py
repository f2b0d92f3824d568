"""A CloudEvents sink in batched mode: takes a batch as a whole or not at all, tells repeats by source and id.

The form: github.com/cloudevents/spec, http-protocol-binding section 3.3 and spec section 3.1; 415, 429 and 410 as
http-webhook has them. What a sink says in its bodies is its own choice.
"""

import math
from typing import Any

import msgspec

from relay.standin.personalities.bearer import TOKEN_PATH, client, grant, refuse_bearer
from relay.standin.personalities.exchange import Asked, Callback, Told
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
    """Callbacks are the events' data. ``bearer=on`` asks for a token."""

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options)
        self.token_path = TOKEN_PATH if options.bearer else None

    @property
    def account(self) -> str:
        """What lets a client in."""
        return client(self.memory) or "nothing is asked for"

    def token(self, asked: Asked) -> Told:
        """Hand out a bearer token."""
        return grant(asked, self.memory)

    def decide(self, asked: Asked) -> Told:
        """Check type and token, then the batch as a whole."""
        if asked.headers.get("content-type", "").partition(";")[0].strip() != _TYPE:
            return Told(415, {"error": f"send {_TYPE}"})
        try:
            events = _EVENTS.decode(asked.body)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return Told(400, {"error": f"not a batch of events: {error}"})
        callbacks = tuple(bytes(event.data) for event in events)
        refused = refuse_bearer(asked, self.memory)
        if refused is not None:
            return Told(refused.status, refused.body, callbacks, headers=refused.headers, name=refused.name)
        if self.memory.is_over():
            return self.over(callbacks, self.memory.options.over_wait_s)
        for index, event in enumerate(events):
            told = self._look(index, event, callbacks)
            if told is not None:
                return told
        return self._take(events, callbacks)

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> Told:
        """Say 429 and when to come again."""
        headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        return Told(429, {"error": "too many requests"}, callbacks, headers=headers, limited=True)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _look(self, index: int, event: _Event, callbacks: tuple[bytes, ...]) -> Told | None:
        missing = next((name for name in _REQUIRED if not getattr(event, name)), None)
        if missing is not None or event.specversion != "1.0":
            return Told(400, {"error": f"event {index}: {missing or 'specversion'} is missing or wrong"}, callbacks)
        match self.memory.fate(Callback(bytes(event.data), _decoded(event.data))):
            case "refused":
                return Told(422, {"error": f"event {event.id}: this order is not known here"}, callbacks)
            case "later":
                return Told(500, {"error": "try again"}, callbacks)
        return None

    def _take(self, events: list[_Event], callbacks: tuple[bytes, ...]) -> Told:
        taken = []
        for event in events:
            name = f"{event.source} {event.id}"
            if name in self.memory.taken:
                self.memory.counts["duplicate"] += 1
                continue
            self.memory.taken[name] = b""
            taken.append(bytes(event.data))
        return Told(204, b"", callbacks, tuple(taken))


def _decoded(data: msgspec.Raw) -> Any:
    return msgspec.json.decode(data)
