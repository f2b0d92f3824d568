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

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from relay.privacy.echoes import without_values
from relay.privacy.masking import HIDDEN, How, PayloadView, mask_as, mask_inside, mask_text

Path = tuple[str, ...]
KEY: Final[Path] = ("key",)
"""How a view names the ordering key."""

_SEGMENT = re.compile(r'"([^"]+)"|([^."\[\]\s]+)|\[(?:\*|\d*)\]')


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
        return without_values(payload for payload in payloads if payload is not None)


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
