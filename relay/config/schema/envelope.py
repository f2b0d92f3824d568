"""The schema of ``envelope``: a name, or a mapping that describes a body of the platform's own."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from relay.config.problems import BadValue
from relay.config.reading.texts import parse_jmespath
from relay.config.reading.yaml_source import KeyPath
from relay.config.schema.values import OrText, Section, reading, required, setting
from relay.wire.envelopes.by_kind import DEFAULT_SOURCE, DEFAULT_TYPE, KINDS, envelope_for


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
    static: dict[str, Any] = setting({}, "object, form: fields every body has, whatever its callbacks.")
    item: dict[str, Any] | None = setting(
        None,
        "object, form: each callback is built anew: names with a JMESPath into the payload each; @ is the whole "
        "payload, mappings and lists nest, `'text'` in a path is a constant. Without it payloads stand there as they "
        "came. A field that is missing or null is refused; write note || '' for one that may be.",
    )
    source: str | None = setting(None, f"cloudevents: the events' source, a URI reference. Not set: {DEFAULT_SOURCE}.")
    event_type: str | None = setting(
        None, f"cloudevents: the type of callbacks posted without an event. Not set: {DEFAULT_TYPE}.", alias="type"
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
            envelope_for(self.stated())
        except ValueError as error:
            raise BadValue("E051", str(error)) from None
        return self

    def stated(self) -> dict[str, Any]:
        """Return what is set, as ``wire.envelopes`` takes it."""
        said = self.model_dump(by_alias=True, exclude_none=True)
        if not self.static:
            del said["static"]
        return said

    @property
    def goes_alone(self) -> bool:
        """Whether a request holds one callback, whatever `batch.max_items` says."""
        return envelope_for(self.stated()).max_items == 1


def _leaves(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict | list):
        for part, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, (*at, part))
    else:
        yield at, value


def check_item(item: dict[str, Any], key: str) -> None:
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
