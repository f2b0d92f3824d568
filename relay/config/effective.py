"""The configuration in force, by setting: what was written, came from a preset or ``defaults``, or is built in.

Values are shown as a person would write them (``10s``, not 10.0), references unresolved, secrets masked; so the
result can be pasted into a ticket, and is a valid configuration but for what is masked.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, get_origin

import yaml
from pydantic import BaseModel

from relay.config.reading.merge import is_preset, with_defaults, written_at
from relay.config.reading.showing import masked
from relay.config.reading.yaml_source import KeyPath, Mark, RawSettings
from relay.config.report.translate import model_for, model_in
from relay.config.schema.file import Config
from relay.core.raw import JsonObject
from relay.core.unsafe import IN_JSON

BUILT_IN = "built in"

ShownSettings = JsonObject
"""The configuration nested as in the file, as people see it: references unresolved, secrets masked."""


class Effective(NamedTuple):
    """One setting in force: its path, its value as shown, and where it comes from."""

    path: KeyPath
    value: Any
    origin: str  # ``file:line``, ``preset NAME, file:line``, ``defaults, file:line`` or ``built in``


_ORIGIN_FROM = 44  # columns: with "# defaults, config.yaml:38" behind it most lines fit into 80


def effective(config: Config) -> list[Effective]:
    """Return every setting in force, in the order of the schema. Keys that are not set have none."""
    data, places = with_defaults(config.origin.data)
    view = _View(config.origin.marks, places, data)
    view.section(
        Config, {key: value for key, value in data.items() if key != "defaults"}, (), skip=("defaults", "include")
    )
    return [_one_at_a_time(config, setting) for setting in view.settings]


def _one_at_a_time(config: Config, setting: Effective) -> Effective:
    """Show that an envelope of one callback carries one, whatever its batch says."""
    if setting.path[0] == "platforms" and setting.path[2:] == ("batch", "max_items"):
        in_force = config.platforms[str(setting.path[1])].batch.max_items
        if in_force != setting.value:
            kind = config.platforms[str(setting.path[1])].envelope.kind
            return Effective(setting.path, in_force, f"envelope: {kind}")
    return setting


def as_tree(settings: Iterable[Effective]) -> ShownSettings:
    """Return settings as nested mappings, the form of the file."""
    tree: ShownSettings = {}
    for path, value, _ in settings:
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(str(part), {})
        branch[str(path[-1])] = value
    return tree


def as_yaml(settings: Iterable[Effective], *, origin: bool) -> str:
    """Return settings as YAML text, each line with its origin as a comment if wanted."""
    lines: list[tuple[str, str]] = []
    open_path: KeyPath = ()
    for path, value, where in settings:
        shared = next((at for at, pair in enumerate(zip(open_path, path, strict=False)) if pair[0] != pair[1]), 0)
        lines.extend(("  " * level + f"{as_scalar(path[level])}:", "") for level in range(shared, len(path) - 1))
        lead = "  " * (len(path) - 1) + f"{as_scalar(path[-1])}:"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append((lead, where))
            lines.extend(("  " * len(path) + f"- {as_scalar(item)}", "") for item in value)
        else:
            lines.append((f"{lead} {as_scalar(value)}", where))
        open_path = path
    if not origin:
        return "".join(f"{text}\n" for text, _ in lines)
    width = min(max((len(text) for text, _ in lines), default=0), _ORIGIN_FROM)
    return "".join(f"{text.ljust(width)}  # {where}\n" if where else f"{text}\n" for text, where in lines)


class _View:
    """Walks schema and data together."""

    def __init__(self, marks: dict[KeyPath, Mark], places: dict[KeyPath, KeyPath], data: RawSettings) -> None:
        self._marks = marks
        self._places = places
        self._data = data
        self.settings: list[Effective] = []

    def section(self, model: type[BaseModel], data: Any, path: KeyPath, *, skip: Iterable[str] = ()) -> None:
        fields = sorted(model.model_fields.items(), key=lambda named: named[0] != "url")  # where it goes, then how
        for name, field in fields:
            key = field.alias or name
            if key in skip:
                continue
            given = key in data
            value = data[key] if given else field.default
            if value is None:
                continue
            annotation = field.annotation
            inner = model_in(annotation)
            container = get_origin(field.annotation)
            if inner is not None and container is dict:
                for child, settings in value.items():
                    self.section(model_for(annotation, settings) or inner, settings, (*path, key, child))
            elif inner is not None and container is not tuple and isinstance(value, dict):
                self.section(model_for(annotation, value) or inner, value, (*path, key))
            elif isinstance(value, dict) and value:
                for child, leaf in value.items():
                    self._leaf((*path, key, child), leaf, given=True)
            else:
                self._leaf((*path, key), value, given=given)

    def _leaf(self, path: KeyPath, value: Any, *, given: bool) -> None:
        public = not given or is_preset(written_at(path, self._places))  # the package's own words
        self.settings.append(
            Effective(path, value if public else masked(path, value), self._origin(path) if given else BUILT_IN)
        )

    def _origin(self, path: KeyPath) -> str:
        written = written_at(path, self._places)
        if is_preset(written):
            named_at = written[: written.index("preset") + 1]
            name = self._data["platforms"][path[1]]["preset"]
            return f"preset {name}, {_line(self._marks[named_at])}"
        place = _line(self._marks[written])
        return f"defaults, {place}" if written != path else place


def _line(mark: Mark) -> str:
    return f"{mark.file}:{mark.key_line}"


def as_scalar(value: Any) -> str:
    """Return a value on one line, quoted where any YAML reader might take it for something else."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True, sort_keys=False)
    if IN_JSON.search(text):  # then in quotes, with YAML's own escapes
        text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
