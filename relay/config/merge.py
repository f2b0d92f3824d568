"""Puts ``defaults`` under every platform: mappings are merged key by key, everything else is replaced."""

from typing import Any

from relay.config.yamlsource import KeyPath


def with_defaults(data: dict[str, Any]) -> tuple[dict[str, Any], dict[KeyPath, KeyPath]]:
    """Return the data with each platform complete, and where each value taken over stands in the file."""
    places: dict[KeyPath, KeyPath] = {}
    defaults, platforms = data.get("defaults"), data.get("platforms")
    if not isinstance(defaults, dict) or not isinstance(platforms, dict):
        return data, places
    merged = {
        name: _merge(defaults, own, ("defaults",), ("platforms", name), places) for name, own in platforms.items()
    }
    return {**data, "platforms": merged}, places


def _merge(base: Any, over: Any, base_path: KeyPath, path: KeyPath, places: dict[KeyPath, KeyPath]) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    merged = dict(over)
    for key, value in base.items():
        if key in over:
            merged[key] = _merge(value, over[key], (*base_path, key), (*path, key), places)
        else:
            merged[key] = _copied(value)
            places[(*path, key)] = (*base_path, key)
    return merged


def _copied(value: Any) -> Any:
    """Copy what several platforms take over: each is checked, and pruned, on its own."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value


def written_at(path: KeyPath, places: dict[KeyPath, KeyPath]) -> KeyPath:
    """Return where in the file the value at ``path`` stands: perhaps under ``defaults``."""
    for length in range(len(path), 1, -1):
        place = places.get(path[:length])
        if place is not None:
            return (*place, *path[length:])
    return path
