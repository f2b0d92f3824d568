"""Puts ``defaults`` and presets under every platform: mappings are merged key by key, everything else is replaced.

What a platform says wins over its preset, and its preset over ``defaults``.
"""

from typing import Any

from relay.config.reading.presets import preset, preset_names
from relay.config.reading.yaml_source import KeyPath, RawSettings

_WITH_KIND = ("auth", "sign", "envelope")


def with_defaults(data: RawSettings) -> tuple[RawSettings, dict[KeyPath, KeyPath]]:
    """Return the data with each platform complete, and where each value taken over stands in the file.

    A preset's values stand where the file names it: below ``platforms.NAME.preset`` or ``defaults.preset``.
    """
    places: dict[KeyPath, KeyPath] = {}
    defaults, platforms = data.get("defaults"), data.get("platforms")
    if not isinstance(platforms, dict):
        return data, places
    merged = {
        name: _complete(own, defaults if isinstance(defaults, dict) else {}, ("platforms", name), places)
        for name, own in platforms.items()
    }
    whole = {**data, "platforms": merged}
    if isinstance(compared := data.get("reconcile"), dict):
        whole["reconcile"] = {
            name: _compared(own, merged.get(name), str(name), places) for name, own in compared.items()
        }
    return whole, places


def _compared(own: Any, platform: Any, name: str, places: dict[KeyPath, KeyPath]) -> Any:
    """Return a section ``reconcile.NAME`` over what the preset of its platform knows of the platform's orders."""
    named = platform.get("preset") if isinstance(platform, dict) else None
    if not isinstance(own, dict) or not isinstance(named, str) or named not in preset_names():
        return own
    known = preset(named).reconcile
    return _merge(known, own, ("platforms", name, "preset"), ("reconcile", name), places)


def _complete(own: Any, defaults: RawSettings, path: KeyPath, places: dict[KeyPath, KeyPath]) -> Any:
    if not isinstance(own, dict):
        return own
    name = own.get("preset", defaults.get("preset"))
    if isinstance(name, str) and name in preset_names():
        named_at = (*path, "preset") if "preset" in own else ("defaults", "preset")
        own = _merge(preset(name).platform, own, named_at, path, places)
    return _merge(defaults, own, ("defaults",), path, places)


def _merge(base: Any, over: Any, base_path: KeyPath, path: KeyPath, places: dict[KeyPath, KeyPath]) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict) or _is_another_form(base, over, path):
        return over
    merged = dict(over)
    for key, value in base.items():
        if key in over:
            merged[key] = _merge(value, over[key], (*base_path, key), (*path, key), places)
        else:
            merged[key] = _copied(value)
            places[(*path, key)] = (*base_path, key)
    return merged


def _is_another_form(base: RawSettings, over: RawSettings, path: KeyPath) -> bool:
    """Tell whether ``over`` is of another ``kind`` than ``base``. Then no keys are merged.

    ``auth: {kind: bearer}`` takes no ``user`` from ``defaults.auth`` of kind ``basic``.
    """
    if path[0] == "reconcile":
        return path[-1] == "platform" and ("file" in over or "sql" in over)
    return path[-1] in _WITH_KIND and ("use" in over or over.get("kind", base.get("kind")) != base.get("kind"))


def _copied(value: Any) -> Any:
    """Return a copy for one platform: each platform's data is checked, and bad keys removed, on its own."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value


def written_at(path: KeyPath, places: dict[KeyPath, KeyPath]) -> KeyPath:
    """Return where in the file the value at ``path`` stands: perhaps under ``defaults``, or below a preset's name."""
    for length in range(len(path), 1, -1):
        place = places.get(path[:length])
        if place is not None:
            return (*place, *path[length:])
    return path


def is_preset(place: KeyPath) -> bool:
    """Tell whether a place lies in a preset, rather than in the file itself."""
    inside = place[:-1]
    return inside[:2] == ("defaults", "preset") or (inside[:1] == ("platforms",) and inside[2:3] == ("preset",))
