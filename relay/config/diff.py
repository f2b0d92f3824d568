"""Compares two configurations: what a reload would change, and which platforms it would not touch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relay.config.effective import ShownSettings, effective
from relay.config.reading.yaml_source import KeyPath
from relay.config.schema.file import Config

_RESTART = (
    ("host",),
    ("ingest", "listen"),
    ("ingest", "processes"),
    ("admin", "listen"),
    ("ingest", "unix"),
    ("store", "url"),
    ("store", "prefix"),
    ("store", "durability"),
    ("store", "spool"),
    ("store", "token_key"),
    ("telemetry", "otlp"),
    ("telemetry", "sample"),
)
_HISTORY = ("store", "keep", "history")


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs; ``old`` or ``new`` is None where it is not set. Values are shown masked."""

    path: KeyPath
    old: Any
    new: Any

    @property
    def needs_restart(self) -> bool:
        """Whether a reload cannot put it in force."""
        if self.path == _HISTORY:  # its file is opened at the start
            return self.old is None or self.new is None
        return self.path[:2] in _RESTART or self.path[:1] in _RESTART


@dataclass(frozen=True, slots=True)
class Difference:
    """What changes from one configuration to another."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]  # platforms whose own settings differ, secrets included
    unchanged: tuple[str, ...]
    changes: tuple[Change, ...]
    hidden: tuple[KeyPath, ...]  # differ only in what is never shown: the value of a secret

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed or self.changes or self.hidden)


def difference(old: Config, new: Config) -> Difference:
    """Return what a reload from ``old`` to ``new`` would change."""
    kept = [name for name in new.platforms if name in old.platforms]
    changed = tuple(name for name in kept if old.platforms[name] != new.platforms[name])
    before = {setting.path: setting.value for setting in effective(old)}
    after = {setting.path: setting.value for setting in effective(new)}
    changes = _changes(before, after)
    shown = {change.path[: 2 if change.path[0] == "platforms" else 1] for change in changes}
    differing: list[KeyPath] = [("platforms", name) for name in changed]
    differing += [
        (name,)
        for name in ("ingest", "admin", "store", "privacy", "credentials", "alerts", "telemetry", "reconcile")
        if getattr(old, name) != getattr(new, name)
    ]
    return Difference(
        added=tuple(name for name in new.platforms if name not in old.platforms),
        removed=tuple(name for name in old.platforms if name not in new.platforms),
        changed=changed,
        unchanged=tuple(name for name in kept if name not in changed),
        changes=changes,
        hidden=tuple(path for path in differing if path not in shown),
    )


def difference_as_shown(old: ShownSettings, new: ShownSettings) -> Difference:
    """Return what differs between two configurations as ``as_tree`` shows them: another value of a secret does not."""
    changes = _changes(dict(_leaves(old)), dict(_leaves(new)))
    before, after = old.get("platforms", {}), new.get("platforms", {})
    touched = {change.path[1] for change in changes if change.path[0] == "platforms"}
    kept = [name for name in after if name in before]
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in kept if name in touched),
        unchanged=tuple(name for name in kept if name not in touched),
        changes=changes,
        hidden=(),
    )


def _changes(before: Mapping[KeyPath, Any], after: Mapping[KeyPath, Any]) -> tuple[Change, ...]:
    paths = [*before, *(path for path in after if path not in before)]
    return tuple(
        Change(path, before.get(path), after.get(path))
        for path in paths
        if before.get(path) != after.get(path) and not (_emptied(path, before, after) or _emptied(path, after, before))
    )


def _emptied(path: KeyPath, full: Mapping[KeyPath, Any], empty: Mapping[KeyPath, Any]) -> bool:
    """Return whether a mapping has keys on one side and none on the other: then each key tells it already."""
    return empty.get(path) == {} and path not in full and any(each[: len(path)] == path for each in full)


def _leaves(tree: ShownSettings, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value
