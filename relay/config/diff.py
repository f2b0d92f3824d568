"""Compares two configurations: what a reload would change, and which platforms it would not touch."""

from dataclasses import dataclass
from typing import Any

from relay.config.effective import effective
from relay.config.schema import Config
from relay.config.yamlsource import KeyPath

_RESTART = (("ingest", "listen"), ("admin", "listen"), ("store", "url"), ("store", "token_key"))


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs; ``old`` or ``new`` is None where it is not set. Values are shown masked."""

    path: KeyPath
    old: Any
    new: Any

    @property
    def needs_restart(self) -> bool:
        """Whether a reload cannot put it in force."""
        return self.path[:2] in _RESTART


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
    paths = [*before, *(path for path in after if path not in before)]
    changes = tuple(
        Change(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)
    )
    shown = {change.path[: 2 if change.path[0] == "platforms" else 1] for change in changes}
    differing: list[KeyPath] = [("platforms", name) for name in changed]
    differing += [
        (name,) for name in ("ingest", "admin", "store", "credentials") if getattr(old, name) != getattr(new, name)
    ]
    return Difference(
        added=tuple(name for name in new.platforms if name not in old.platforms),
        removed=tuple(name for name in old.platforms if name not in new.platforms),
        changed=changed,
        unchanged=tuple(name for name in kept if name not in changed),
        changes=changes,
        hidden=tuple(path for path in differing if path not in shown),
    )
