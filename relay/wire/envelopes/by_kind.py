"""The envelopes by name: from what the configuration says to the object that builds bodies."""

from collections.abc import Mapping
from typing import Any, Final

from relay.wire.envelopes.cloudevents import CloudEventsEnvelope
from relay.wire.envelopes.composed import FormEnvelope, ObjectEnvelope
from relay.wire.envelopes.plain import ArrayEnvelope, Envelope, NdjsonEnvelope, SingleEnvelope

_PLAIN: Final[dict[str, Envelope]] = {
    envelope.kind: envelope for envelope in (ArrayEnvelope(), NdjsonEnvelope(), SingleEnvelope())
}
KINDS: Final = (*_PLAIN, "object", "form", "cloudevents")
DEFAULT_SOURCE: Final = "/relay"
DEFAULT_TYPE: Final = "callback"


def envelope_for(stated: str | Mapping[str, Any]) -> Envelope:
    """Return the envelope that a name or a mapping with ``kind`` states; keys with the value None count as absent.

    Raises ``ValueError`` naming the kinds there are, or saying what is wrong with the mapping.
    """
    settings = {"kind": stated} if isinstance(stated, str) else {k: v for k, v in stated.items() if v is not None}
    kind = settings.pop("kind", None)
    if kind in ("object", "form"):
        make = ObjectEnvelope if kind == "object" else FormEnvelope
        known: dict[str, Any] = {"items_at": None, "static": {}, "item": None}
        _refuse_others(settings, known, kind)
        return make(**{**known, **settings})
    if kind == "cloudevents":
        defaults = {"source": DEFAULT_SOURCE, "type": DEFAULT_TYPE, "mode": "batched"}
        _refuse_others(settings, defaults, kind)
        said = {**defaults, **settings}
        return CloudEventsEnvelope(source=said["source"], event_type=said["type"], mode=said["mode"])
    envelope = _PLAIN.get(str(kind))
    if envelope is None:
        raise ValueError(f"envelope {kind!r} does not exist; use one of {', '.join(KINDS)}")
    _refuse_others(settings, {}, envelope.kind)
    return envelope


def _refuse_others(settings: Mapping[str, Any], known: Mapping[str, Any], kind: str) -> None:
    for name in settings:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes no settings"
            raise ValueError(f"envelope {kind} does not know {name}; {takes}")
