"""Makes a configuration of what is left when the bad values are taken out: the rest can then be checked too."""

from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from relay.config.reading.yaml_source import KeyPath, RawSettings
from relay.config.report.translate import file_path
from relay.config.schema.file import Config
from relay.config.schema.rules import RuleSection

_STAND_INS: dict[str | int, Any] = {
    "routes": {"match": {"event": "unread"}, "to": ["unread"]},
    "to": "unread",
    "classify": RuleSection.model_validate({"path": "unread", "in": ["unread"], "as": "ok"}),
    "quotas": "unread",
    "listen": "127.0.0.1:0",
    "users": {"name": "unread", "role": "viewer", "token": "unread"},
}
"""What stands in, list by list, for an entry that cannot be read: the others keep their places and are checked.

A mapping only fills up what the entry lacks. A rule is replaced: with a condition less it would hold for too much.
"""


def remainder(data: RawSettings, failed: set[KeyPath]) -> Config | None:
    """Return the configuration without the values at ``failed``; None if too little is left to make one.

    What has to go with them, or stands in for them, is added to ``failed``: nothing may be reported about that either.
    """
    for path in sorted(failed, key=len, reverse=True):  # what is inside first
        _take_away(data, path, failed)
    data["version"] = 1
    data.setdefault("platforms", {})
    for section in data["platforms"].values():
        section.setdefault("url", "http://unknown.invalid/")
    for _ in range(3):  # what is taken away may leave something incomplete, and that something else
        try:
            return Config.model_validate(data)
        except ValidationError as error:  # the first round has reported what is wrong here
            for detail in error.errors(include_url=False):
                path = file_path(detail["loc"])
                gone = path[:-1] if detail["type"] == "missing" else path  # what lacks a key goes as a whole
                failed.add(gone)
                _take_away(data, gone, failed, whole=True)
    return None


def _take_away(data: RawSettings, path: KeyPath, failed: set[KeyPath], *, whole: bool = False) -> None:
    """Remove what lies at ``path``; in a list it takes only that entry, where there is something to stand in for it.

    What can be read of an entry stays, unless it has to go as a ``whole``.
    """
    indices = [at for at, part in enumerate(path) if isinstance(part, int)]
    at = next((at for at in reversed(indices) if path[at - 1] in _STAND_INS), 0)
    entries = inside(data, path[:at])
    if not isinstance(entries, list):
        _remove(data, path[: min(indices, default=len(path))])  # the other entries of a list would change places
        return
    index, stand_in = int(path[at]), deepcopy(_STAND_INS[path[at - 1]])
    entry = entries[index]
    if whole or not isinstance(entry, dict) or not isinstance(stand_in, dict):
        entries[index] = stand_in
        return
    _remove(entry, path[at + 1 :])
    failed.discard(path[: at + 1])  # it may lack something; what it does say has been read
    failed.update((*path[: at + 1], key) for key in stand_in if key not in entry)
    entries[index] = {**stand_in, **entry}


def _remove(data: Any, path: KeyPath) -> None:
    owner = inside(data, path[:-1])
    if isinstance(owner, dict) and path:
        owner.pop(path[-1], None)


def inside(data: Any, path: KeyPath) -> Any:
    """Return what lies at ``path``; None for nothing."""
    for part in path:
        if isinstance(data, dict):
            data = data.get(part)
        else:
            data = data[part] if isinstance(data, list) and isinstance(part, int) else None
    return data
