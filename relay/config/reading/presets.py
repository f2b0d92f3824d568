"""Presets: what is known of a platform, as YAML in the package, for ``preset: NAME``.

A preset is a set of platform keys with where each fact comes from, what is not known, and what its user must supply.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from relay.config.problems import BadValue, quoted
from relay.config.reading.yaml_source import KeyPath, RawSettings, parse_source

_SUFFIX = ".yaml"


class Need(NamedTuple):
    """A key that no preset can know, and what to put there."""

    key: str  # dotted, as in the file: auth.client_id
    what: str

    @property
    def path(self) -> KeyPath:
        """The key as a path below the platform."""
        return tuple(self.key.split("."))


class Preset(NamedTuple):
    """One preset; ``platform`` is as written in the file, ``text`` the whole file."""

    name: str
    title: str
    about: str
    needs: tuple[Need, ...]
    platform: RawSettings
    facts: tuple[RawSettings, ...]
    unknown: tuple[str, ...]
    text: str
    reconcile: RawSettings  # where the platform shows its orders, for its section ``reconcile``; empty: not known

    def missing(self, platform: RawSettings) -> Iterator[Need]:
        """Yield what a platform that uses this preset, merged with it, has not supplied.

        Where the platform replaced a part by another form (another ``kind``, or ``use``), that form's own keys count.
        """
        for need in self.needs:
            if not self._replaced(need.path[0], platform) and not _is_given(platform, need.path):
                yield need

    def _replaced(self, key: str | int, platform: RawSettings) -> bool:
        own, given = self.platform.get(str(key)), platform.get(str(key))
        if given is None or not isinstance(own, dict):
            return False
        return not isinstance(given, dict) or "use" in given or given.get("kind") != own.get("kind")


def _is_given(value: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(value, dict) or value.get(part) is None:
            return False
        value = value[part]
    return True


@cache
def preset_names() -> tuple[str, ...]:
    """Return the names of all presets, sorted."""
    entries = (entry.name for entry in _directory().iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in entries if name.endswith(_SUFFIX)))


@cache
def preset(name: str) -> Preset:
    """Return the preset called ``name``. Raises ``BadValue`` naming what was probably meant."""
    parse_preset(name)
    text = (_directory() / f"{name}{_SUFFIX}").read_text(encoding="utf-8")
    data = parse_source(text.encode(), f"{name}{_SUFFIX}").data
    return Preset(
        name=name,
        title=data["title"],
        about=data["about"],
        needs=tuple(Need(**need) for need in data["needs"]),
        platform=data["platform"],
        facts=tuple(data["facts"]),
        unknown=tuple(data["unknown"]),
        text=text,
        reconcile=data.get("reconcile", {}),
    )


def parse_preset(value: Any) -> str:
    """Return the name of a preset there is."""
    if not isinstance(value, str) or value not in preset_names():
        close = get_close_matches(str(value), preset_names(), 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(preset_names())}"
        raise BadValue("E015", f"{quoted(value)} is not a preset", hint)
    return value


def _directory() -> Any:
    return files("relay") / "presets"
