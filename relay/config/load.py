"""Loads the configuration: read the file and what it includes, resolve references, merge, validate, check.

Every problem is named, each with its file and place. Opens nothing but these files and the files that references name;
binds, connects and writes nothing.
"""

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.config import service_unit
from relay.config.checks import certificates, contradictions, warnings
from relay.config.plausible import implausible, never_sent
from relay.config.problems import CODES, MOST_PROBLEMS, BadValue, ConfigInvalid, Problem, quoted
from relay.config.reading.include import read_whole, refused, unmatched, with_included
from relay.config.reading.known_secrets import known_secrets
from relay.config.reading.merge import is_preset, with_defaults, written_at
from relay.config.reading.presets import preset, preset_names
from relay.config.reading.references import Resolved, Resolver, scrub
from relay.config.reading.showing import hidden_texts
from relay.config.reading.wide_characters import wide_in
from relay.config.reading.yaml_source import KeyPath, RawSettings, YamlSource, parse_source
from relay.config.report.remainder import inside, remainder
from relay.config.report.translate import PlacedProblem, as_written, dotted, file_path, findings
from relay.config.schema.file import Config, Origin

_SECTIONS = (
    "ingest",
    "admin",
    "store",
    "privacy",
    "quotas",
    "credentials",
    "defaults",
    "alerts",
    "telemetry",
    "reconcile",
)
"""Top-level mappings that may stand empty, with everything below them commented out."""

_ABOUT_VALUES = frozenset(CODES) - {"E010", "E011", "E032", "E033", "E040", "E041", "W011"}
"""Codes whose messages may quote the value they are about, which must not happen to what a reference holds.

A message about a mapping quotes none of its values, and neither do those of E032 and E033.
"""

_ABOUT_SECRETS = frozenset(code for code in CODES if "E020" <= code < "E040")
"""Codes that may be about a value's own form, which what stands for an unread secret need not have."""


def load(
    path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None, for_service: bool = False
) -> Config:
    """Load the file at ``path``; raise ``ConfigInvalid`` with all its problems.

    ``environ`` (default: the process's) resolves ``${env:}``, ``$CREDENTIALS_DIRECTORY`` and ``$STATE_DIRECTORY``.
    ``for_service``: who loads it is not the one who runs it, so a secret of the unit's file that only the service can
    read is no problem; ``Config.unread`` names them. Such a configuration is for looking at, not for running.
    """
    source = read_whole(Path(path), name=os.fspath(path))
    return _compile(source, Path(path), os.environ if environ is None else environ, for_service=for_service)


def loads(text: str, *, path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """Load a configuration given as text, as if it stood in the file at ``path``; raises as ``load`` does."""
    source = with_included(parse_source(text.encode(), os.fspath(path)), Path(path))
    return _compile(source, Path(path), os.environ if environ is None else environ, for_service=False)


def examine(text: str, *, path: str | os.PathLike[str]) -> tuple[Problem, ...]:
    """Return the problems of a text that somebody sent, as if it stood in the file at ``path``.

    No file or variable that it names is read: the sender must not learn which of them exist. The value behind a
    reference is assumed to be good.
    """
    try:
        source = parse_source(text.encode(), os.fspath(path))
        if problems := refused(source):
            return tuple(problems)  # what is said of the rest would be wrong for lack of the others
        _fill_empty_sections(source)
        unread = Resolver([], {}, files_elsewhere=True, variables_elsewhere=True).resolve(source.data)
        _, report, _ = _checked(source, unread)
    except ConfigInvalid as invalid:
        return invalid.problems
    return ConfigInvalid(report.problems).problems


def _compile(source: YamlSource, path: Path, environ: Mapping[str, str], *, for_service: bool) -> Config:
    _fill_empty_sections(source)
    directory = path.resolve().parent
    credentials = service_unit.credentials_directory(path, environ)
    outside = for_service and service_unit.is_outside(path, environ)
    resolved = Resolver(
        [directory] if credentials is None else [credentials, directory],
        environ,
        files_elsewhere=outside and not service_unit.may_list_credentials(),
        variables_elsewhere=outside,
    ).resolve(source.data)
    data, report, config = _checked(source, resolved)
    if config is not None:
        for found in certificates(config, directory, for_service=outside):
            report.add(as_written(found))
    if report.problems:
        raise ConfigInvalid(report.problems)
    if config is None:
        raise AssertionError("a configuration without problems has been validated")
    state = service_unit.state_directory(path, environ)
    config._origin = Origin(
        source.file,
        state,
        source.data,
        source.marks,
        known_secrets(data, resolved.held),
        tuple(dict.fromkeys(resolved.unread.values())),
    )
    placed = [
        report.place(found) for found in map(as_written, chain(warnings(config, source.data), implausible(config)))
    ]
    placed += [report.place(PlacedProblem(path, _about(path, bad))) for path, bad in resolved.warnings]
    config._warnings = tuple(sorted([*placed, *unmatched(source, path)]))
    return config


def _checked(source: YamlSource, resolved: Resolved) -> tuple[RawSettings, "_Report", Config | None]:
    """Return the merged data, everything found wrong with it, and the configuration that it, or what is left, makes."""
    data, places = with_defaults(resolved.data)
    report = _Report(source, resolved, places)
    for bad_path, bad in resolved.problems:
        report.add(PlacedProblem(bad_path, _about(bad_path, bad)))
    dropped = _drop_empty(data, (), report)
    dropped |= _report_needs(data, dropped, report)
    return data, report, _validate(data, dropped, report)


def _about(path: KeyPath, bad: BadValue) -> BadValue:
    return BadValue(bad.code, f"{dotted(path)}: {bad.message}", bad.hint)


def _fill_empty_sections(source: YamlSource) -> None:
    for name in _SECTIONS:
        if name in source.data and source.data[name] is None and (name,) not in source.bad:
            source.data[name] = {}
    platforms = source.data.get("platforms")
    if isinstance(platforms, dict):
        for name, own in platforms.items():
            platforms[name] = {} if own is None else own


def _drop_empty(value: Any, path: KeyPath, report: "_Report") -> set[KeyPath]:
    """Report and remove keys without a value. ``rate:`` with nothing behind it must not become "no limit"."""
    dropped: set[KeyPath] = set()
    if isinstance(value, list):
        for index, child in enumerate(value):
            dropped |= _drop_empty(child, (*path, index), report)
    if not isinstance(value, dict):
        return dropped
    for key, child in list(value.items()):
        child_path = (*path, key)
        if child is None or report.is_bad(child_path):
            if not report.is_bad(child_path):
                wide = wide_in(str(key))
                hint = "give it one, or remove the key"
                if child_path == ("platforms",):
                    hint = "indent the platforms below it"
                if wide is not None:
                    hint = f"{wide[0]} stands in it, not {wide[1]}"
                report.add(
                    PlacedProblem(child_path, BadValue("E014", f"{dotted(child_path)} has no value", hint), at_key=True)
                )
            del value[key]
            dropped.add(child_path)
        else:
            dropped |= _drop_empty(child, child_path, report)
    return dropped


def _report_needs(data: RawSettings, dropped: set[KeyPath], report: "_Report") -> set[KeyPath]:
    """Report the keys that a preset leaves to its user and that are missing. Return their paths."""
    missing: set[KeyPath] = set()
    platforms = data.get("platforms")
    for name, platform in platforms.items() if isinstance(platforms, dict) else ():
        wanted = platform.get("preset") if isinstance(platform, dict) else None
        if not isinstance(wanted, str) or wanted not in preset_names():
            if wanted is not None:
                report.lacks_preset(("platforms", str(name)))
            continue
        for need in preset(wanted).missing(platform):
            path: KeyPath = ("platforms", name, *need.path)
            missing.add(path)
            if path not in dropped:  # else it is already said that it has no value
                owner = f"platforms.{name}; the preset {wanted} leaves it to you"
                what = f"the key {quoted(need.key)} is missing in {owner}"
                report.add(PlacedProblem(("platforms", name, "preset"), BadValue("E011", what, f"it is {need.what}")))
    return missing


def _validate(data: RawSettings, dropped: set[KeyPath], report: "_Report") -> Config | None:
    """Validate the data. If that fails, validate once more without what was wrong: the rest may contradict itself too.

    A file with a bad ``rate`` and a route to an unknown platform thus shows both mistakes at once.
    """
    failed: set[KeyPath] = set()
    try:
        config: Config | None = Config.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        emptied = {gone[:-1] for gone in dropped}
        for found, detail in zip(findings(details), details, strict=True):
            if detail["type"] == "missing" and file_path(detail["loc"]) in dropped:
                continue  # already said: it stands there without a value
            if detail["input"] == {} and found.path in emptied:
                continue  # already said: nothing is left of it but keys without a value
            report.add(found)
            if found.meant and inside(data, found.meant) is None:
                failed.add(found.meant)  # it is there, only under another name
            if len(report.problems) > MOST_PROBLEMS:
                return None  # thousands more cost seconds, and nobody reads them
        failed |= {file_path(detail["loc"]) for detail in details}
        config = remainder(data, failed)
    if config is not None:
        unread = failed | dropped
        parents = {path[:length] for path in unread for length in range(len(path))}
        for found in map(as_written, chain(contradictions(config), never_sent(config))):
            if not _relies_on_unread(found, unread, parents):
                report.add(found)
            if len(report.problems) > MOST_PROBLEMS:
                break
    return config


def _relies_on_unread(found: PlacedProblem, unread: set[KeyPath], parents: set[KeyPath]) -> bool:
    """Tell whether a contradiction is about a value that could not be read, or about a part of one, or around one.

    If ``platforms.a.rate`` cannot be read, "burst needs a rate beside it" is not reported for ``platforms.a``.
    """
    return any(
        needed in parents or any(needed[:length] in unread for length in range(len(needed) + 1))
        for needed in found.relies_on
    )


class _Report:
    """Collects findings as problems: each with its line and column, and without secrets in its words."""

    def __init__(self, source: YamlSource, resolved: Resolved, places: dict[KeyPath, KeyPath]) -> None:
        self._source = source
        self._resolved = resolved
        self._places = places
        self._unresolved = {path for path, _ in resolved.problems}
        self._without_preset: set[KeyPath] = set()
        self.problems: list[Problem] = list(source.problems)

    def add(self, found: PlacedProblem) -> None:
        """Keep a finding, unless its value could not be read in the first place: that is reported already."""
        if found.bad.code not in ("E006", "E040", "E041") and self.is_bad(found.path):
            return
        if found.bad.code == "E011" and found.path[:2] in self._without_preset:
            return
        if found.bad.code in _ABOUT_SECRETS and self._is_about_unread(found.path):
            return
        self.problems.append(self.place(found))

    def lacks_preset(self, platform: KeyPath) -> None:
        """Note a platform with an unknown preset. Its missing keys are not reported: the right preset may have them."""
        self._without_preset.add(platform)

    def is_bad(self, path: KeyPath) -> bool:
        """Tell whether a value has been reported already, by the YAML reader or as a broken reference."""
        written = written_at(path, self._places)
        return written in self._source.bad or written in self._unresolved

    def _is_about_unread(self, path: KeyPath) -> bool:
        """Tell whether a finding may come from what stands for a secret that only the service can read."""
        written = written_at(path, self._places)
        return any(unread[: len(written)] == written[: len(unread)] for unread in self._resolved.unread)

    def place(self, found: PlacedProblem) -> Problem:
        """Return the finding as a problem with its line and column."""
        bad = found.bad
        place = written_at(found.path, self._places)
        known = self._known(place)
        mark = self._source.marks[known]
        message, hint, offset = bad.message, bad.hint, bad.offset
        if bad.code in _ABOUT_VALUES and known in self._resolved.references:
            message, hint, offset = f"{dotted(known)}: what the reference holds is {CODES[bad.code]}", "", 0
        elif is_preset(place):
            message = f"{message} (from the preset)"
        elif place != found.path:
            message = message.replace(f"platforms.{found.path[1]}", "defaults")
        # one rate is checked as a list of one: the place of its [0] is its own
        if known != place and not is_preset(place):
            message = message.replace(dotted(place), dotted(known))
        if found.at_key or (known != place and mark.is_mapping):
            line, col = mark.key_line, mark.key_col
        else:
            line, col = mark.line, mark.col + offset + (1 if mark.quoted and offset else 0)
        values = self._resolved.values | frozenset(hidden_texts(found.path, inside(self._source.data, place)))
        return Problem(mark.file, line, col, bad.code, scrub(message, values), scrub(hint, values))

    def _known(self, path: KeyPath) -> KeyPath:
        """Return ``path`` or the nearest thing around it that stands in the file."""
        while path not in self._source.marks:
            path = path[:-1]
        return path
