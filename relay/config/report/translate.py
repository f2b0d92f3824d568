"""Turns pydantic's errors into problems: our codes, our words, the place in the file, and what was probably meant."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from relay.config.problems import BadValue, quoted
from relay.config.reading.wide_characters import wide_in
from relay.config.reading.yaml_source import KeyPath
from relay.config.schema.file import Config
from relay.config.schema.values import kind_or_use
from relay.core.receipts import RECEIPTS

_OF_RECEIPTS: KeyPath = ("platforms", RECEIPTS)
_ELSEWHERE = {
    "rate_limit": "rate", "limit": "rate", "ratelimit": "rate", "attempts": "retry.times",
    "max_attempts": "retry.times", "retries": "retry.times", "max_events": "batch.max_items",
    "max_wait": "batch.linger", "endpoint": "url", "uri": "url", "order_by": "key", "order_key": "key",
    "ttl": "expires", "compression": "compress", "format": "envelope", "max_in_flight": "concurrency",
    "max_disk": "max_size", "dir": "url", "port": "listen", "address": "listen", "retention": "keep",
}  # fmt: skip
"""What the same thing is called by other systems."""


_SWITCHES = {"on": True, "yes": True, "y": True, "off": False, "no": False, "n": False}
_SWITCHED = {
    ("compress", True): "gzip", ("compress", False): "none", ("on_dead", True): "block", ("on_dead", False): "skip",
    ("learn_limit", True): "true",
    ("learn_limit", False): "false",
}  # fmt: skip
"""What switching on or off means for keys that have words of their own for it."""


class PlacedProblem(NamedTuple):
    """A problem whose place is a path in the data."""

    path: KeyPath
    bad: BadValue
    at_key: bool = False  # the key is wrong, not its value
    relies_on: tuple[KeyPath, ...] = ()  # it says nothing where one of these could not be read
    meant: KeyPath = ()  # the key that this unknown one was probably meant to be


def problem_at(
    path: KeyPath,
    code: str,
    message: str,
    hint: str = "",
    *,
    relies_on: Iterable[KeyPath] = (),
    at_key: bool = False,
) -> PlacedProblem:
    """Return a problem of the value at ``path`` that relies on that value, and on others, having been read."""
    return PlacedProblem(path, BadValue(code, message, hint), at_key, (path, *relies_on))


def as_written(found: PlacedProblem) -> PlacedProblem:
    """Return a finding about the platform that delivers receipts as one about ``receipts``, where it is written."""
    if found.path[:2] != _OF_RECEIPTS:
        return found
    bad = found.bad
    return found._replace(
        path=("receipts", *found.path[2:]),
        bad=BadValue(bad.code, bad.message.replace(dotted(_OF_RECEIPTS), "receipts"), bad.hint, offset=bad.offset),
        relies_on=tuple(("receipts", *path[2:]) if path[:2] == _OF_RECEIPTS else path for path in found.relies_on),
    )


def findings(errors: list[ErrorDetails]) -> Iterator[PlacedProblem]:
    """Yield what pydantic found, in our words."""
    for error in errors:
        yield _finding(error, file_path(error["loc"]), bool(error["loc"]) and error["loc"][-1] == "[key]")


def file_path(loc: KeyPath) -> KeyPath:
    """Return the path in the file that pydantic means; it also names which form of a mapping it took it for."""
    return tuple(part for part, in_file in _steps(loc) if in_file)


def _finding(error: ErrorDetails, path: KeyPath, at_key: bool) -> PlacedProblem:
    kind, context = error["type"], error.get("ctx", {})
    where = dotted(path)
    if kind == "extra_forbidden":
        return _unknown_key(tuple(error["loc"]), path, error["input"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return PlacedProblem(path, _no_form(path, error["input"]))
    if kind[:1] == "E" and kind[1:].isdigit():
        path = (*path, *context["at"])
        bad = BadValue(kind, f"{dotted(path)}: {context['message']}", context["hint"], offset=context["offset"])
        return PlacedProblem(path, bad, at_key)
    if kind == "missing":
        owner = f" in {dotted(path[:-1])}" if path[:-1] else ""
        hint = "write version: 1 as the first line" if path == ("version",) else _outdented(path[:-1])
        return PlacedProblem(
            path[:-1], BadValue("E011", f"the key {quoted(path[-1])} is missing{owner}", hint), at_key=True
        )
    if kind in ("literal_error", "enum"):
        return PlacedProblem(path, _no_choice(error["loc"], path, error["input"]))
    code, message, hint = _shape(error, where)
    return PlacedProblem(path, BadValue(code, message, hint or _outdented(path)))


def _outdented(path: KeyPath) -> str:
    """Return a hint where what should be a platform has the name of a platform's key: it stands too far to the left."""
    if len(path) != 2 or path[0] != "platforms" or path[1] not in (_keys_at(path) or ()):
        return ""
    return f"{path[1]} is a key of a platform: indent it below the platform's name"


def _shape(error: ErrorDetails, where: str) -> tuple[str, str, str]:
    """Return code, message and hint of a wrong type or range."""
    kind, value = error["type"], error["input"]
    bounds = {
        "greater_than_equal": ("ge", "at least"),
        "less_than_equal": ("le", "at most"),
        "greater_than": ("gt", "above"),
    }
    if kind in bounds:
        name, word = bounds[kind]
        return "E016", f"{where} must be {word} {_number(error['ctx'][name])}, not {quoted(value)}", ""
    wanted, hint = {
        "model_type": ("a mapping of keys", ""),
        "dict_type": ("a mapping of names", "write `NAME:` and its keys below it"),
        "tuple_type": ("a list", "write [a, b]"),
        "string_type": ("text", "put it in quotes"),
        "int_type": ("a whole number", ""),
        "float_type": ("a number", ""),
        "bool_type": ("true or false", ""),
    }.get(kind, (f"something else ({kind})", ""))
    if kind == "string_type" and isinstance(value, dict | list):
        hint = ""
    if kind in ("model_type", "dict_type", "tuple_type") and isinstance(value, str) and (wide := wide_in(value)):
        return "E013", f"{where} must be {wanted}, not {quoted(value)}", f"{wide[0]} stands where YAML wants {wide[1]}"
    if kind in ("int_type", "float_type") and isinstance(value, str) and value.isdigit():
        hint = f"write {value} without quotes"
    if kind == "bool_type" and value in ("on", "yes", "off", "no"):
        hint = f"write {'true' if value in ('on', 'yes') else 'false'}; YAML 1.2 knows no other words"
    if kind == "tuple_type":
        hint = f"write [{value}]" if isinstance(value, str | int) else "start each entry with `- `"
    return "E013", f"{where} must be {wanted}, not {quoted(value)}", hint


def _number(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _no_form(path: KeyPath, value: Any) -> BadValue:
    """Say which forms a mapping with a ``kind`` has."""
    keys = _keys_at(path[:-1])
    # a free name, as below credentials, lies one level deeper than the annotation
    owner = keys[path[-1]] if keys else (above[path[-2]] if (above := _keys_at(path[:-2])) else None)
    forms = forms_in(owner)
    kinds = ", ".join(form for form in forms if form != "use")
    other = " or {use: NAME}" if "use" in forms else ""
    if not isinstance(value, dict):
        return BadValue("E013", f"{dotted(path)} must be a mapping of keys, not {quoted(value)}", f"kinds are {kinds}")
    if "kind" not in value:
        return BadValue("E011", f"the key 'kind' is missing in {dotted(path)}", f"kinds are {kinds}{other}")
    close = get_close_matches(str(value["kind"]).lower(), forms, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"kinds are {kinds}{other}"
    return BadValue("E015", f"{dotted(path)}: {quoted(value['kind'])} is not a kind", hint)


def _no_choice(loc: KeyPath, path: KeyPath, value: Any) -> BadValue:
    if path == ("version",):
        return BadValue("E008", f"version {quoted(value)} of the format is not known to this relay", "write version: 1")
    named = tuple(loc)
    while isinstance(named[-1], int):  # an entry of a list of choices
        named = named[:-1]
    keys = _keys_at(named[:-1])
    choices = [str(choice) for choice in _literals(keys[named[-1]])] if keys else []
    on = value if isinstance(value, bool) else _SWITCHES.get(str(value).lower())
    if on is not None and (meant := _SWITCHED.get((str(path[-1]), on))):
        return BadValue("E015", f"{dotted(path)}: {quoted(value)} is not a choice", f"did you mean {meant!r}?")
    close = get_close_matches(str(value).lower(), [choice.lower() for choice in choices], 1)
    meant = next((choice for choice in choices if close and choice.lower() == close[0]), None)
    hint = f"did you mean {meant!r}?" if meant else f"choices are {', '.join(choices)}"
    return BadValue("E015", f"{dotted(path)}: {quoted(value)} is not a choice", hint)


def _unknown_key(loc: KeyPath, path: KeyPath, value: Any) -> PlacedProblem:
    key, owner = str(path[-1]), dotted(path[:-1])
    inside = f" in {owner}" if owner else ""
    keys = _keys_at(loc[:-1])
    meant = _meant(key, keys) if keys else None
    hint = f"did you mean {meant!r}?" if meant else ""
    if not owner and (hint == f"did you mean 'defaults.{key}'?"):
        hint = f"{key} is a key of a platform: indent it below the platform's name"
    if not owner and isinstance(value, dict) and "url" in value:
        hint = "indent it below `platforms:`"
    if wide := wide_in(key):
        hint = f"{wide[0]} stands in it where YAML wants {wide[1]}"
        return PlacedProblem(path, BadValue("E010", f"unknown key {quoted(key)}{inside}", hint), at_key=True)
    if keys and not meant and len(keys) <= 8:
        hint = f"keys are {', '.join(keys)}"
    bad = BadValue("E010", f"unknown key {quoted(key)}{inside}", hint)
    return PlacedProblem(path, bad, at_key=True, meant=(*path[:-1], *meant.split(".")) if meant else ())


def _meant(key: str, keys: dict[Any, Any]) -> str | None:
    """Guess the key meant: another system's word for it, a slip of the pen, or a key of a mapping within."""
    for name, annotation in keys.items():
        inner = model_in(annotation)
        if inner is not None and key in _fields(inner) and get_origin(annotation) not in (dict, tuple):
            return f"{name}.{key}"
    words = {name: name for name in keys}
    words |= {word: meant for word, meant in _ELSEWHERE.items() if meant.partition(".")[0] in keys}
    close = get_close_matches(key.lower().replace("-", "_"), words, 1, 0.65)
    return words[close[0]] if close else None


def _keys_at(path: KeyPath) -> dict[Any, Any] | None:
    """Return the keys, with their annotations, of the section at ``path``; None where free names or values lie.

    Where a mapping has several forms, ``path`` says which as pydantic does: by a part of its own behind the key.
    """
    model: type[BaseModel] | None = Config
    for step in _walk(path):
        model = step.model
    return _fields(model) if model else None


class _Step(NamedTuple):
    part: Any
    in_file: bool
    model: type[BaseModel] | None  # the section that lies here, if it is one


def _steps(loc: KeyPath) -> list[tuple[Any, bool]]:
    return [(step.part, step.in_file) for step in _walk(loc)]


def _walk(loc: KeyPath) -> Iterator[_Step]:
    """Follow a path through the schema, telling the file's own keys from pydantic's marks among them."""
    model: type[BaseModel] | None = Config
    parts = [part for part in loc if part != "[key]"]
    while parts:
        annotation = _fields(model).get(parts[0]) if model else None
        inner, forms = model_in(annotation), forms_in(annotation)
        model = None if len(forms) > 1 else inner
        within = get_origin(annotation) in (dict, tuple) and len(parts) > 1
        yield _Step(parts.pop(0), True, None if get_origin(annotation) in (dict, tuple) else model)
        if within:
            yield _Step(parts.pop(0), True, model)
        if len(forms) > 1 and parts and parts[0] in forms:
            model = forms[parts[0]]
            yield _Step(parts.pop(0), False, model)


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: ``platforms.shop-a.classify[0].as``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _fields(model: type[BaseModel]) -> dict[Any, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section type within an annotation such as ``dict[str, Platform]``, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def forms_in(annotation: Any) -> dict[Any, type[BaseModel]]:
    """Return the forms of a mapping with a ``kind``, by that kind; empty for one with a single form."""
    found: dict[Any, type[BaseModel]] = {}
    for part in get_args(annotation):
        if isinstance(part, Tag):
            inner = model_in(annotation)
            return {part.tag: inner} if inner is not None else {}
        found |= forms_in(part)
    return found


def model_for(annotation: Any, value: Any) -> type[BaseModel] | None:
    """Return the section type that ``value`` is read as."""
    forms = forms_in(annotation)
    return forms.get(kind_or_use(value)) if forms else model_in(annotation)


def _literals(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for part in get_args(annotation):
        found.extend(_literals(part) if get_args(part) else [part])
    return [part for part in found if not isinstance(part, type)]
