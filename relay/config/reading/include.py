"""Reads the files that ``include`` names and merges them with the one that names them, before anything is checked.

Mappings are merged key by key, so ``platforms: {a: ...}`` of one file and ``platforms: {b: ...}`` of another become one
mapping of both. Any other key may be set in one of the files only.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay.config.problems import ConfigInvalid, Problem, quoted
from relay.config.reading.yaml_source import MAX_NODES, KeyPath, RawSettings, YamlSource, read_source

INCLUDE = "include"
_MOST_FILES = 1000  # a thousand platforms with a file for each
_CODE = "E035"


def read_whole(path: Path, *, name: str | None = None) -> YamlSource:
    """Read the file at ``path`` and what it includes; raise ``ConfigInvalid`` where one of them cannot be read."""
    return with_included(read_source(path, name=name), path)


def with_included(source: YamlSource, path: Path) -> YamlSource:
    """Return a source merged with the files that it includes; patterns are relative to the folder of ``path``.

    Files are taken in the order of the patterns, and of one pattern in the order of their names. Raises
    ``ConfigInvalid`` with everything that keeps one of the files from being read.
    """
    unusable: list[Problem] = []
    whole = YamlSource(source.file, source.data, dict(source.marks), list(source.problems), set(source.bad))
    for file, place in _named(source, path, unusable):
        try:
            part = read_source(path.resolve().parent / file, name=_shown(source.file, path, file), may_be_empty=True)
        except ConfigInvalid as invalid:
            unusable += [_told_where(problem, place) for problem in invalid.problems]
            continue
        _add(whole, part)
        if len(whole.marks) > MAX_NODES:
            unusable.append(Problem(part.file, 1, 1, "E006", f"all files hold more than {MAX_NODES} keys and values"))
            break
    if unusable:
        raise ConfigInvalid(unusable)
    return whole


def unmatched(source: YamlSource, path: Path) -> Iterator[Problem]:
    """Yield a warning for each pattern that names no file: what stood in the files is silently missing."""
    for place, pattern in _patterns(source):
        folder = path.resolve().parent / os.path.split(pattern)[0]
        if not _matches(path.resolve().parent, pattern):
            mark = source.marks[place]
            why = "no file has such a name" if folder.exists() else f"there is no folder {folder}"
            yield Problem(source.file, mark.line, mark.col, "W015", f"{quoted(pattern)} includes nothing: {why}")


def refused(source: YamlSource) -> list[Problem]:
    """Return that a text sent from elsewhere may include nothing: its sender must not learn what lies on this host."""
    if source.data.get(INCLUDE) is None:
        return []
    mark = source.marks[(INCLUDE,)]
    hint = "check the files where they lie, or send all settings as one text"
    what = "files are not included in a text that was sent"
    return [Problem(source.file, mark.key_line, mark.key_col, _CODE, what, hint)]


def _named(source: YamlSource, path: Path, unusable: list[Problem]) -> Iterator[tuple[str, str]]:
    """Yield each file to include, relative to the folder of ``path``, and where its pattern stands."""
    seen: set[str] = set()
    for place, pattern in _patterns(source):
        mark = source.marks[place]
        try:
            files = _matches(path.resolve().parent, pattern)
        except _Unusable as error:
            unusable.append(Problem(source.file, mark.line, mark.col, _CODE, error.what, error.hint))
            continue
        for file in files:
            if file in seen:
                continue  # two patterns hold for it
            seen.add(file)
            if len(seen) > _MOST_FILES:
                what = f"more than {_MOST_FILES} files are included"
                unusable.append(Problem(source.file, mark.line, mark.col, "E006", what))
                return
            yield file, f"{source.file}:{mark.line}"


def _patterns(source: YamlSource) -> list[tuple[KeyPath, str]]:
    written = source.data.get(INCLUDE)
    if isinstance(written, list):
        return [((INCLUDE, index), one) for index, one in enumerate(written) if isinstance(one, str)]
    return [((INCLUDE,), written)] if isinstance(written, str) else []


class _Unusable(Exception):
    """A pattern cannot be used: what is wrong, and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def _matches(directory: Path, pattern: str) -> list[str]:
    """Return the files that a pattern names, sorted. One without wildcards names its file, whether it exists or not.

    Raises ``_Unusable``, also for a folder that may not be listed: its files would silently be missing.
    """
    folder, name = os.path.split(pattern)
    if "${" in pattern or "\0" in pattern or glob.has_magic(folder) or not name:
        raise _Unusable(
            f"{quoted(pattern)} names no files to include", "write conf.d/*.yaml: wildcards in the name only"
        )
    if not glob.has_magic(name):
        return [os.path.normpath(pattern)]
    try:
        with os.scandir(directory / folder):
            pass
    except FileNotFoundError:
        return []
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise _Unusable(f"{directory / folder} cannot be read: {why}") from None
    return sorted(os.path.normpath(found) for found in glob.glob(pattern, root_dir=directory))


def _shown(main: str, path: Path, file: str) -> str:
    """Return the name of an included file for messages: beside the main file's, as that was given."""
    directory = path.resolve().parent
    beside = os.path.realpath(path.parent) == str(directory)  # else the main file is a link into another folder
    return os.path.join(os.path.dirname(main) if beside else directory, file)


def _told_where(problem: Problem, place: str) -> Problem:
    return problem._replace(hint=f"included by {place}") if problem.code == "E001" else problem


def _add(whole: YamlSource, part: YamlSource) -> None:
    whole.problems.extend(part.problems)
    if INCLUDE in part.data:
        mark = part.marks[(INCLUDE,)]
        what = "an included file includes nothing itself"
        hint = f"name its files in {whole.file}"
        whole.problems.append(Problem(part.file, mark.key_line, mark.key_col, _CODE, what, hint))
    _merge(whole, part, {key: value for key, value in part.data.items() if key != INCLUDE}, whole.data, ())
    whole.bad.update(part.bad)
    for path, mark in part.marks.items():
        whole.marks.setdefault(path, mark)


def _merge(whole: YamlSource, part: YamlSource, more: RawSettings, into: RawSettings, path: KeyPath) -> None:
    for key, value in more.items():
        at = (*path, key)
        if key not in into:
            into[key] = value
            continue
        own = into[key]
        if isinstance(own, dict) and isinstance(value, dict):
            _merge(whole, part, value, own, at)
        elif _is_empty(own, at, whole) and isinstance(value, dict):
            into[key] = value  # `platforms:` with nothing below it
            whole.marks[at] = part.marks[at]
        elif not (_is_empty(value, at, part) and isinstance(own, dict)):
            _twice(whole, part, at)


def _is_empty(value: Any, path: KeyPath, source: YamlSource) -> bool:
    return value is None and path not in source.bad


def _twice(whole: YamlSource, part: YamlSource, path: KeyPath) -> None:
    mark, first = part.marks[path], whole.marks[path]
    inside = f" in {'.'.join(map(str, path[:-1]))}" if path[:-1] else ""
    what = f"the key {quoted(path[-1])}{inside} is set twice"
    hint = f"first in {first.file}:{first.key_line}:{first.key_col}"
    whole.problems.append(Problem(part.file, mark.key_line, mark.key_col, "E005", what, hint))
