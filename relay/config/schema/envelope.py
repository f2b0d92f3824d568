"""The schema of ``envelope``: a name, or a mapping that describes a body of the platform's own.

The section compiles itself into what builds bodies, once, when the file is read: a mistake is found there.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from relay.config.problems import BadValue
from relay.config.reading.texts import parse_jmespath
from relay.config.reading.yaml_source import KeyPath
from relay.config.schema.values import OrText, Section, reading, required, setting
from relay.core.raw import JsonObject
from relay.wire.envelopes.cloudevents import CloudEventsEnvelope
from relay.wire.envelopes.composed import FormEnvelope, ObjectEnvelope
from relay.wire.envelopes.plain import ArrayEnvelope, Envelope, NdjsonEnvelope, SingleEnvelope
from relay.wire.payload.fields import FieldMap

KINDS = ("array", "ndjson", "single", "object", "form", "cloudevents")
_DEFAULT_SOURCE = "/relay"
_DEFAULT_TYPE = "callback"
_COMPOSED = ("items_at", "static", "item")
_KEYS = {"object": _COMPOSED, "form": _COMPOSED, "cloudevents": ("source", "type", "mode")}
"""The keys that a kind takes beside ``kind``; the others take none."""


class EnvelopeSection(Section):
    """How payloads become a request body."""

    kind: Literal["array", "ndjson", "single", "object", "form", "cloudevents"] = required(
        "array (a JSON array), ndjson (one per line), single (one per request, as is), object (a JSON object around "
        "them), form (application/x-www-form-urlencoded), cloudevents (1.0, batched)."
    )
    items_at: str | None = setting(
        None,
        "object: dotted path of the list of callbacks, such as data.orders. form: the field that holds the list as "
        "JSON. Without it a request is one callback's, built by `item`.",
    )
    static: JsonObject = setting({}, "object, form: fields every body has, whatever its callbacks.")
    item: JsonObject | None = setting(
        None,
        "object, form: each callback is built anew: names with a JMESPath into the payload each; @ is the whole "
        "payload, mappings and lists nest, `'text'` in a path is a constant. Without it payloads stand there as they "
        "came. A field that is missing or null is refused; write note || '' for one that may be.",
    )
    source: str | None = setting(None, f"cloudevents: the events' source, a URI reference. Not set: {_DEFAULT_SOURCE}.")
    event_type: str | None = setting(
        None, f"cloudevents: the type of callbacks posted without an event. Not set: {_DEFAULT_TYPE}.", alias="type"
    )
    mode: Literal["batched", "structured"] | None = setting(
        None, "cloudevents: batched (a JSON array of events) or structured (one event per request). Not set: batched."
    )

    @model_validator(mode="after")
    @reading
    def _consistent(self) -> "EnvelopeSection":
        """Refuse paths that do not compile, and settings that no body can be built of."""
        check_item(self.item or {}, "item")
        for name in ("items_at", "source", "event_type"):
            if getattr(self, name) == "":
                raise BadValue("E031", f"{name} is empty", "leave it out or name something")
        try:
            self._refuse_unused()
            _ = self.compiled
        except ValueError as error:
            raise BadValue("E051", str(error)) from None
        return self

    def _refuse_unused(self) -> None:
        takes = _KEYS.get(self.kind, ())
        given = {"items_at": self.items_at, "static": self.static or None, "item": self.item}
        given |= {"source": self.source, "type": self.event_type, "mode": self.mode}
        for name, value in given.items():
            if value is not None and name not in takes:
                rest = f"it takes {', '.join(takes)}" if takes else "it takes no settings"
                raise ValueError(f"envelope {self.kind} does not know {name}; {rest}")

    @cached_property
    def compiled(self) -> Envelope:
        """What builds bodies of this form. Raises ``ValueError`` for settings that no body can be built of."""
        match self.kind:
            case "array":
                return ArrayEnvelope()
            case "ndjson":
                return NdjsonEnvelope()
            case "single":
                return SingleEnvelope()
            case "object":
                return ObjectEnvelope(items_at=self.items_at, static=self.static, item=self.item)
            case "form":
                return FormEnvelope(items_at=self.items_at, static=self.static, item=self.item)
            case "cloudevents":
                return CloudEventsEnvelope(
                    source=self.source or _DEFAULT_SOURCE,
                    event_type=self.event_type or _DEFAULT_TYPE,
                    mode=self.mode or "batched",
                )

    @property
    def goes_alone(self) -> bool:
        """Whether a request holds one callback, whatever `batch.max_items` says."""
        return self.compiled.max_items == 1


def _leaves(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict | list):
        for part, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, (*at, part))
    else:
        yield at, value


def check_item(item: FieldMap, key: str) -> None:
    """Check every JMESPath of a mapping from names to paths, which stands under ``key``."""
    for at, value in _leaves(item, (key,)):
        if not isinstance(value, str):
            continue
        try:
            parse_jmespath(value)
        except BadValue as bad:
            raise BadValue(bad.code, bad.message, bad.hint, offset=bad.offset, at=at) from None


def _in_short(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


EnvelopeSetting = Annotated[EnvelopeSection, BeforeValidator(_in_short), OrText(f"({'|'.join(KINDS)})")]
