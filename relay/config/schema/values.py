"""The value types of the schema: how each is read, and how an editor may check it.

Every type reads YAML text or data, raises a ``Problem``'s code on what it cannot read, and says in JSON Schema what
it accepts. Defaults in the schema are written as a person would write them and pass through the same reading.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from relay.config.problems import BadValue
from relay.config.reading import texts, units
from relay.config.reading.units import Backoff
from relay.config.reading.wide_characters import wide_in
from relay.core.model import Rate
from relay.wire.answers.json_path import JsonPath
from relay.wire.regex import Pattern

_REFERENCE = r"[\s\S]*\$\{(?:file|env):[\s\S]*"  # an editor cannot check what a reference will hold


class Section(BaseModel):
    """A mapping of the file: frozen, strict about types, refusing unknown keys, and silent about its contents."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    def __repr__(self) -> str:
        """Return the type's name only: any value may hold a secret."""
        return f"<{type(self).__name__}>"

    __str__ = __repr__


def setting(default: Any, description: str, **constraints: Any) -> Any:
    """Declare a key with its default, written as in the file; its description says unit, default and reason."""
    return Field(default=default, validate_default=True, description=description, **constraints)


def required(description: str, **constraints: Any) -> Any:
    """Declare a key that must be given."""
    return Field(description=description, **constraints)


def reading(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let ``parse``'s ``BadValue`` reach pydantic as an error with our code."""

    def read(value: Any) -> Any:
        try:
            return parse(value)
        except BadValue as bad:
            wide = wide_in(value) if isinstance(value, str) else None
            hint = bad.hint if wide is None else f"{wide[0]} stands in it where {wide[1]} is wanted"
            detail = {"message": bad.message, "hint": hint, "offset": bad.offset, "at": bad.at}
            raise PydanticCustomError(bad.code, "{message}", detail) from None

    return read


def parsed(parse: Callable[[Any], Any], pattern: str, *examples: str) -> tuple[PlainValidator, WithJsonSchema]:
    """Return what reads a text with ``parse``, and tells an editor its pattern."""
    schema = {"type": "string", "pattern": f"^(?:{pattern}|{_REFERENCE})$", "examples": list(examples)}
    return PlainValidator(reading(parse)), WithJsonSchema(schema)


class OneOrMany:
    """In JSON Schema: the item itself or a list of it."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many["items"], many]}


class OrText:
    """In JSON Schema: the type itself or a text of this pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the text to what pydantic derives."""
        return {"anyOf": [{"type": "string", "pattern": f"^{self.pattern}$"}, handler(core)]}


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and one value as a tuple of it."""
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


def only_list(value: Any) -> Any:
    """Return a list as a tuple; anything else is left for pydantic to refuse."""
    return tuple(value) if isinstance(value, list) else value


def kind_or_use(value: Any) -> str | None:
    """Return which form of a mapping with a ``kind`` is meant; one with ``use`` names what stands elsewhere."""
    if isinstance(value, dict):
        kind = value.get("kind")
        return kind if isinstance(kind, str) else "use" if kind is None and "use" in value else None
    return str(getattr(value, "kind", "use")) if isinstance(value, Section) else None


def above_zero(seconds: float) -> float:
    """Refuse a duration or size of nothing."""
    if seconds <= 0:
        raise BadValue("E016", "the value must be above 0")
    return seconds


Duration = Annotated[float, *parsed(units.parse_duration, units.DURATION_PATTERN, "500ms", "10s", "24h")]
PositiveDuration = Annotated[
    float, *parsed(lambda v: above_zero(units.parse_duration(v)), units.DURATION_PATTERN, "500ms", "10s", "24h")
]
Size = Annotated[int, *parsed(lambda v: above_zero(units.parse_size(v)), units.SIZE_PATTERN, "64KiB", "2MiB")]
Share = Annotated[float, *parsed(units.parse_share, units.SHARE_PATTERN, "50%")]
RateText = Annotated[Rate, *parsed(units.parse_rate, units.RATE_PATTERN, "10/s", "100/min")]
Rates = Annotated[tuple[RateText, ...], BeforeValidator(as_tuple), OneOrMany()]
BackoffRange = Annotated[Backoff, *parsed(units.parse_backoff, units.RANGE_PATTERN, "2s..10m")]
Name = Annotated[str, PlainValidator(reading(texts.parse_name)), WithJsonSchema({"type": "string"})]
JmesPath = Annotated[str, *parsed(texts.parse_jmespath, r"[\s\S]+", "order_id", "order.id")]
AnswerPath = Annotated[JsonPath, *parsed(texts.parse_answer_path, r"[\s\S]+", "errcode", "error.code")]
Regex = Annotated[Pattern, *parsed(texts.parse_regex, r"[\s\S]*")]
Url = Annotated[str, *parsed(texts.parse_url, r"https?://[^\s#]+", "https://api.shop-a.example/callbacks")]
PlainUrl = Annotated[str, *parsed(texts.parse_plain_url, r"https?://[^\s#{}]+", "https://api.shop-a.example/token")]
Headers = Annotated[
    dict[
        Annotated[str, AfterValidator(reading(texts.parse_sent_name))],
        Annotated[str, AfterValidator(reading(texts.parse_sent_value))],
    ],
    AfterValidator(reading(texts.each_once)),
]
Listen = Annotated[
    str, *parsed(texts.parse_listen, r"unix:/.+|.+:\d{1,5}", "127.0.0.1:8787", "unix:/run/relay/relay.sock")
]
Listens = Annotated[tuple[Listen, ...], BeforeValidator(as_tuple), OneOrMany()]
StoreUrl = Annotated[
    str, *parsed(texts.parse_store_url, r"sqlite:[^:]+|redis(s|\+sentinel|\+cluster)?://.+", "sqlite:relay.db")
]
StorePrefix = Annotated[str, *parsed(texts.parse_store_prefix, r"[A-Za-z0-9_.-]+", "relay")]
UtcOffset = Annotated[float, *parsed(texts.parse_utc_offset, r"UTC|Z|[+-]\d\d:\d\d", "+08:00")]
Text = Annotated[str, PlainValidator(reading(texts.parse_text)), WithJsonSchema({"type": "string", "minLength": 1})]
HeaderName = Annotated[str, PlainValidator(reading(texts.parse_header_name)), WithJsonSchema({"type": "string"})]
SecretText = Annotated[str, *parsed(texts.parse_secret_text, r"[\s\S]+", "${file:secret}")]
SecretTexts = Annotated[tuple[SecretText, ...], BeforeValidator(as_tuple), OneOrMany()]
Secret = Annotated[str, *parsed(texts.parse_secret, r"[!-~]+", "${file:token}")]
TokenKey = Annotated[bytes, *parsed(texts.parse_token_key, r"[0-9A-Fa-f]{64}|[0-9A-Za-z+/]{43}=", "${file:token_key}")]
Names = Annotated[tuple[Name, ...], BeforeValidator(only_list)]
Texts = Annotated[tuple[str, ...], BeforeValidator(only_list)]
OneOrMoreTexts = Annotated[tuple[str, ...], BeforeValidator(as_tuple), OneOrMany()]
