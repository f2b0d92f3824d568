"""What limits count beside requests: callbacks, bytes, points. The same keys in a platform and in a shared quota."""

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from relay.config.problems import BadValue, quoted
from relay.config.reading import windows
from relay.config.reading.texts import parse_jmespath
from relay.config.schema.values import OneOrMany, Section, as_tuple, parsed, reading, required, setting
from relay.core.model import Rate


def _cost(value: Any) -> str | int:
    if isinstance(value, str):
        return parse_jmespath(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise BadValue("E016", f"{quoted(value)} is no cost", "write a whole number above 0, or a JMESPath such as weight")


_WINDOWS = ("100/min", "100000/day@+08:00")
WindowRates = Annotated[
    tuple[Annotated[Rate, *parsed(windows.parse_window, windows.WINDOW_PATTERN, *_WINDOWS)], ...],
    BeforeValidator(as_tuple),
    OneOrMany(),
]
_ItemRates = Annotated[
    tuple[Annotated[Rate, *parsed(windows.parse_items, windows.WINDOW_PATTERN, "6000/min")], ...],
    BeforeValidator(as_tuple),
    OneOrMany(),
]
_ByteRates = Annotated[
    tuple[Annotated[Rate, *parsed(windows.parse_bytes, windows.BYTES_PATTERN, "50MiB/min")], ...],
    BeforeValidator(as_tuple),
    OneOrMany(),
]
_PointRates = Annotated[
    tuple[Annotated[Rate, *parsed(windows.parse_points, windows.WINDOW_PATTERN, "1000/min")], ...],
    BeforeValidator(as_tuple),
    OneOrMany(),
]
_Cost = Annotated[
    str | int,
    PlainValidator(reading(_cost)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]


class PointsSection(Section):
    """A limit of points, which the platform counts by what a callback is."""

    rate: _PointRates = required("Points allowed: 1000/min, or a list that must all hold.")
    cost: _Cost = setting(
        1, "What one callback costs: a whole number, or a JMESPath into the payload. Where that finds no number: 1."
    )


class CountedLimits(Section):
    """What is counted beside requests."""

    items: _ItemRates = setting([], "Callbacks allowed: 6000/min. A batch is packed to what is left of it.")
    bytes: _ByteRates = setting([], "Bytes of request bodies as they are sent, compressed: 50MiB/min.")
    points: PointsSection | None = setting(None, "Points allowed, and what a callback costs: {rate: N/min, cost: 5}.")

    @property
    def counted(self) -> tuple[Rate, ...]:
        """The limits of items, bytes and points."""
        return (*self.items, *self.bytes, *(self.points.rate if self.points is not None else ()))
