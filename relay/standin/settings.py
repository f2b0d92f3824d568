"""How the stand-in behaves on a path. The same words set it on the command line and over HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import nan
from typing import Any, cast, get_args

from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration, parse_size
from relay.config.reading.windows import parse_bytes, parse_items, parse_points, parse_window
from relay.core.errors import RelayError
from relay.core.model import Rate
from relay.core.raw import JsonObject
from relay.standin.bodies import Shape
from relay.standin.personalities.registry import check_personality
from relay.standin.reactions import TOO_MANY, Reaction, parse_answer
from relay.standin.throttle import Limiters, build_limit
from relay.standin.weighing import Weighing
from relay.wire.payload.cost import cost_reader

_ENCODINGS = ("gzip", "zstd")


class BadSetting(RelayError):
    """A setting that cannot be read; the message names it and says what to write."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a share of the requests at random."""

    answer: Reaction
    probability: float


@dataclass(frozen=True, slots=True)
class Settings:
    """The behaviour of one path."""

    limit: tuple[tuple[str, Rate], ...] = ()  # (kind, rate); all hold
    items: tuple[Rate, ...] = ()  # of callbacks
    bytes: tuple[Rate, ...] = ()  # of bodies as they come
    points: tuple[Rate, ...] = ()
    cost: str | int = 1  # points of a callback: a number, or a JMESPath into its payload
    over: Reaction = TOO_MANY  # the answer above the limit
    latency: tuple[float, float] = (0.0, 0.0)  # seconds that an answer is held back: least and most, drawn evenly
    fault: tuple[Fault, ...] = ()
    outage: Reaction | None = None  # while set, what happens to every request
    retry_after_s: float = 1.0  # what Retry-After says when no limit knows the wait
    poison: str = "poison"  # a payload with this field true makes the whole request a 400
    accept: tuple[str, ...] = _ENCODINGS  # content codings; others draw 415
    max_bytes: int = 64 * 2**20  # decoded; above it 413
    shape: Shape = "auto"
    items_at: str = ""  # dotted path of the list inside an object
    id_field: str = ""  # the value of this field is logged for each callback
    reply: str = '{"errcode":0,"errmsg":"ok"}'  # body of a success
    personality: str = ""  # NAME[:OPTIONS] of the platform it answers as

    def limits(self) -> Limiters:
        """Build fresh limiters for this behaviour."""
        return Limiters([build_limit(kind, rate) for kind, rate in self.limit])

    def weighing(self) -> Weighing:
        """Build fresh limits on what requests carry."""
        return Weighing([*self.items, *self.bytes, *self.points])

    def changed(self, words: JsonObject) -> "Settings":
        """Return these settings with some replaced, e.g. ``{"limit": ["100/min"], "outage": "503"}``.

        Values are words as on the command line; null or an empty word takes the default. Raises ``BadSetting``.
        """
        values: JsonObject = {}
        for name, word in words.items():
            field_name = "retry_after_s" if name == "retry_after" else name
            if field_name not in _NAMES:
                raise BadSetting(f"there is no setting {name!r}: use {', '.join(sorted(_READERS))}")
            try:
                values[field_name] = getattr(_DEFAULT, field_name) if word in (None, "", []) else _READERS[name](word)
            except BadValue as bad:
                raise BadSetting(f"{name}: {bad.message}" + (f"; {bad.hint}" if bad.hint else "")) from bad
            except ValueError as error:
                raise BadSetting(f"{name}: {error}") from error
        return replace(self, **values)


def _limits(words: Any) -> tuple[tuple[str, Rate], ...]:
    limits = []
    for word in _listed(words):
        kind, colon, rate = str(word).partition(":")
        kind, rate = (kind, rate) if colon and "/" not in kind else ("sliding", str(word))
        limits.append((kind, parse_window(rate)))
        build_limit(*limits[-1])
    return tuple(limits)


def _rates(parse: Callable[[object], Rate]) -> Callable[[Any], tuple[Rate, ...]]:
    return lambda words: tuple(parse(str(word)) for word in _listed(words))


def _cost(word: Any) -> str | int:
    given: str | int = int(word) if str(word).isdigit() else str(word)
    if given == 0:
        raise ValueError("a callback costs more than 0")
    cost_reader(given)
    return given


def _latency(word: Any) -> tuple[float, float]:
    low, dots, high = str(word).partition("..")
    times = parse_duration(low), parse_duration(high if dots else low)
    if times[0] > times[1]:
        raise ValueError(f"{word} ends before it starts")
    return times


def _faults(words: Any) -> tuple[Fault, ...]:
    faults = []
    for word in _listed(words):
        kind, colon, share = str(word).rpartition(":")
        if not colon:
            raise ValueError(f"{word!r} has no probability: write {word}:0.05")
        try:
            probability = float(share)
        except ValueError:
            probability = nan  # not between 0 and 1, so it is refused below
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"{word!r}: a probability lies between 0 and 1")
        faults.append(Fault(parse_answer(kind), probability))
    if sum(fault.probability for fault in faults) > 1.0:
        raise ValueError("the probabilities add up to more than 1")
    return tuple(faults)


def _encodings(word: Any) -> tuple[str, ...]:
    names = () if word == "none" else tuple(str(word).split(",") if isinstance(word, str) else word)
    for name in names:
        if name not in _ENCODINGS:
            raise ValueError(f"no content coding {name!r}: use none, gzip, zstd or gzip,zstd")
    return names


def _shape(word: Any) -> Shape:
    if word not in get_args(Shape):
        raise ValueError(f"no shape {word!r}: use {', '.join(get_args(Shape))}")
    return cast(Shape, word)


def _listed(words: Any) -> Sequence[Any]:
    return words if isinstance(words, list | tuple) else str(words).split(",")


_READERS: dict[str, Callable[[Any], Any]] = {
    "limit": _limits,
    "items": _rates(parse_items),
    "bytes": _rates(parse_bytes),
    "points": _rates(parse_points),
    "cost": _cost,
    "over": lambda word: parse_answer(str(word)),
    "latency": _latency,
    "fault": _faults,
    "outage": lambda word: parse_answer(str(word)),
    "retry_after": parse_duration,
    "poison": str,
    "accept": _encodings,
    "max_bytes": parse_size,
    "shape": _shape,
    "items_at": str,
    "id_field": str,
    "reply": str,
    "personality": lambda word: check_personality(str(word)),
}
_NAMES = {field.name for field in fields(Settings)}
_DEFAULT = Settings()
