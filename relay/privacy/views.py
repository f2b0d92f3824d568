"""Decides what of a callback somebody sees. Nothing else does: API, console, commands, exports and events all ask here.

Three things decide, in this order:

1. ``privacy.mask`` says ``hide``: the value is ``***`` for everybody.
2. The user's view. Its lists (``show``, ``mask``, ``hide``) are asked in the order they stand in the file, and the
   first with a path that fits decides. For example ``{mask: [receiver.phone], show: [receiver], default: hide}`` shows
   the receiver without the phone number. What no list names is ``default``. Without a view everything is masked.
3. What is masked, is masked as ``privacy.mask`` says, else by what it is recognised as (``masking``).

A hidden value is ``***`` and leaves out nothing, so that the shape of a payload stays. What a platform answered may
repeat a payload. So whoever may not see every field sees such texts without any value of the payload.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote

import msgspec

from relay.privacy.masking import HIDDEN, How, PayloadView, mask_as, mask_inside, mask_text

Path = tuple[str, ...]
KEY: Final[Path] = ("key",)
"""How a view names the ordering key."""

_SEGMENT = re.compile(r'"([^"]+)"|([^."\[\]\s]+)|\[(?:\*|\d*)\]')
_BOUNDED_CHARS = 6  # shorter values are replaced as whole words alone: `paid` is no part of `prepaid`
_LEAST_CHARS = 2  # of a value: a Chinese name has two
_LEAST_DIGITS = 3  # fewer are counts and codes, and in every text
_CUT_CHARS = 4  # of a value that the end of the text cut off
_SHORTENED_CHARS = 6  # of one that the platform shortened, and half of it at least


class Shade(StrEnum):
    """What becomes of a value."""

    SHOW = "show"
    MASK = "mask"
    HIDE = "hide"


class PathRule(NamedTuple):
    """What a view says about a path and everything below it."""

    path: Path
    shade: Shade


class View(NamedTuple):
    """Who sees what of a payload: the first rule that fits, else ``default``."""

    rules: tuple[PathRule, ...]
    default: Shade


_MASKED: Final = View((), Shade.MASK)
_Masks = Sequence[tuple[Path, How]]


def parse_path(text: str) -> Path:
    """Return the keys of ``receiver.name``, ``items[*].phone`` or ``"a.b".c``. Lists are passed through unnamed.

    ``*`` stands for any key. Raises ``ValueError``.
    """
    keys: list[str] = []
    at = 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if found is None:
            raise ValueError(f"{text[at : at + 20]!r} is no key")
        if found[1] or found[2]:
            keys.append(found[1] or found[2])
        at = found.end()
        if at < len(text) and text[at] == "." and at + 1 < len(text):
            at += 1
        elif at < len(text) and text[at] != "[":
            raise ValueError(f"{text[at : at + 20]!r} follows a key where a dot is wanted")
    if not keys:
        raise ValueError("no key is named")
    return tuple(keys)


class Lens:
    """What one kind of viewer sees. ``view`` None: everything masked."""

    def __init__(self, masks: _Masks = (), view: View | None = None) -> None:
        self._masks = tuple(masks)
        self._view = view or _MASKED

    @cached_property
    def whole(self) -> bool:
        """Whether every field may be seen."""
        every = {self._view.default, *(rule.shade for rule in self._view.rules)}
        return every == {Shade.SHOW} and all(how != "hide" for _, how in self._masks)

    @cached_property
    def shows_keys(self) -> bool:
        """Whether ordering keys are shown: unless the view names ``key`` to mask or to hide it."""
        return self._key_shade is Shade.SHOW

    @cached_property
    def _key_shade(self) -> Shade:
        return next((rule.shade for rule in self._view.rules if rule.path == KEY), Shade.SHOW)

    def key(self, key: str) -> str:
        """Return an ordering key as far as it may be seen."""
        if self._key_shade is Shade.SHOW:
            return key
        return HIDDEN if self._key_shade is Shade.HIDE else mask_text(key)

    def payload(self, payload: bytes) -> PayloadView:
        """Return ``payload`` as far as it may be seen; if it is no JSON, only its length."""
        try:
            value = _seen(msgspec.json.decode(payload), self._view.rules, self._view.default, self._masks)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # RecursionError: nested too deeply
            return PayloadView("hidden", None, len(payload))
        return PayloadView("masked", value, len(payload))

    def words(self, *payloads: bytes | None) -> Callable[[str], str]:
        """Return what shows a text that came with the answer to ``payloads`` (None: one is gone), such as a reason."""
        if self.whole:
            return lambda text: text
        forms = _forms(value for payload in payloads if payload is not None for value in _values(payload))

        def shown(text: str) -> str:
            for form in forms:
                text = form.taken_out_of(text)
            return mask_inside(text)

        return shown


class Lenses:
    """The lens of each view by its name; ``replace`` puts a reloaded configuration in force."""

    def __init__(self, masks: _Masks, views: Mapping[str, View]) -> None:
        self.replace(masks, views)

    def replace(self, masks: _Masks, views: Mapping[str, View]) -> None:
        """Take other masks and views."""
        self.plain = Lens(masks)
        self._by_name = {name: Lens(masks, view) for name, view in views.items()}

    def of(self, view: str | None) -> Lens:
        """Return the lens of a view; everything is masked for whoever has none, or one that is gone."""
        return self.plain if view is None else self._by_name.get(view, self.plain)


def _seen(value: Any, rules: Sequence[PathRule], default: Shade, masks: _Masks) -> Any:
    """Return a value as it is seen; of ``rules`` and ``masks`` those that may fit, their paths from here on."""
    if isinstance(value, dict):
        return {
            _key_seen(key): _seen(inner, _under_rules(key, rules), default, _under_masks(key, masks))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_seen(inner, rules, default, masks) for inner in value]
    shade = next((rule.shade for rule in rules if not rule.path), default)
    how = next((how for path, how in masks if not path), None)
    if shade is Shade.HIDE or how == "hide":
        return HIDDEN
    if shade is Shade.SHOW or value is None or isinstance(value, bool) or value == "":
        return value
    text = value if isinstance(value, str) else str(value)
    return mask_text(text) if how is None else mask_as(text, how)


def _key_seen(key: str) -> str:
    return mask_inside(key) if any(character.isdigit() or character == "@" for character in key) else key


def _under_rules(key: str, rules: Sequence[PathRule]) -> list[PathRule]:
    """Return the rules for what lies under ``key``: those that hold for all of it, and those that go on there."""
    found = []
    for rule in rules:
        if not rule.path:
            found.append(rule)
        elif rule.path[0] in (key, "*"):
            found.append(PathRule(rule.path[1:], rule.shade))
    return found


def _under_masks(key: str, masks: _Masks) -> list[tuple[Path, How]]:
    return [(path[1:], how) for path, how in masks if path and path[0] in (key, "*")] + [
        (path, how) for path, how in masks if not path
    ]


def _values(payload: bytes) -> Iterator[str]:
    """Return every text and number of a payload: JSON, or a form; of anything else the whole."""
    try:
        yield from _leaves(msgspec.json.decode(payload))
        return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = payload.decode("utf-8", "replace")
    fields = [value for _, value in parse_qsl(text)]
    yield from fields or [text]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield str(value)


class _Form:
    """One way to write a value: as it is, escaped as in JSON or escaped as in a URL."""

    __slots__ = ("_bounded", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._bounded: re.Pattern[str] | None = None
        if text.isascii() and len(text) < _BOUNDED_CHARS:
            self._bounded = re.compile(rf"(?<![0-9A-Za-z]){re.escape(text)}(?![0-9A-Za-z])")

    def taken_out_of(self, text: str) -> str:
        """Return ``text`` without this value, and without its beginning where the text or the value was cut off."""
        if self._bounded is not None:
            return self._bounded.sub(HIDDEN, text) if self._text in text else text
        if self._text in text:
            text = text.replace(self._text, HIDDEN)
        text = self._shortened(text)
        begins = self._text[: _CUT_CHARS if self._text.isascii() else 2]
        at = text.find(begins, max(0, len(text) - len(self._text) + 1))
        while at >= 0:
            if self._text.startswith(text[at:]):
                return text[:at] + HIDDEN
            at = text.find(begins, at + 1)
        return text

    def _shortened(self, text: str) -> str:
        """Return ``text`` without long beginnings of this value: ``13812345`` of 13812345678, not of 13812345999."""
        least = max(_SHORTENED_CHARS, len(self._text) // 2)
        at = text.find(self._text[:least])
        while at >= 0 and len(self._text) > least:
            end = at + least
            while end < len(text) and end - at < len(self._text) and text[end] == self._text[end - at]:
                end += 1
            if end == len(text) or not text[end].isalnum():
                text = text[:at] + HIDDEN + text[end:]
                end = at + len(HIDDEN)
            at = text.find(self._text[:least], end)
        return text


def _forms(values: Iterable[str]) -> list[_Form]:
    """Return the forms of every value that tells something, the longest first: one may be part of another."""
    written: set[str] = set()
    for value in values:
        plain = value.strip()
        if len(plain) >= (_LEAST_DIGITS if plain.isdigit() else _LEAST_CHARS):
            escaped = quote(plain, safe="")
            written |= {plain, json.dumps(plain)[1:-1], escaped, escaped.lower()}
    return [_Form(text) for text in sorted(written, key=len, reverse=True)]
