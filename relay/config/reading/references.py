"""Resolves ``${file:name}`` and ``${env:NAME}`` in text values, and keeps what they stand for out of messages.

References are replaced after parsing, in string values only, so what a file or variable holds can never become YAML
structure.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relay.config.problems import BadValue, quoted
from relay.config.reading.invisible_characters import invisible_in, trimmed
from relay.config.reading.showing import MASK
from relay.config.reading.yaml_source import KeyPath, RawSettings

UNREAD = "0" * 48
"""Stands for a secret that only the service can read: a password, hexadecimal, base64 and a host name all at once."""
_MOST_RESOLVED_BYTES = 4 * 2**20  # all that references stand for: as much as the file itself may be
_MOST_REFERENCES = 1000  # in one text
MAX_SECRET_BYTES = 64 * 2**10  # a private key is 4 KiB; more is the wrong file

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<inner>[^{}]*)\})?")  # an escaped one, or one that may lack its end


_TOO_MUCH = BadValue("E006", f"what the references hold is more than {_MOST_RESOLVED_BYTES // 2**20} MiB in all")
_NEVER_CLOSED = BadValue(
    "E041", "${ is never closed", "write ${file:NAME} or ${env:NAME} ($${ stands for a literal ${)"
)


class Resolved(NamedTuple):
    """Data with references replaced; ``references`` holds the text as written for each path that had one."""

    data: RawSettings
    references: dict[KeyPath, str]
    held: dict[KeyPath, list[str]]  # what the references at each path stood for, to keep it out of what is shown
    warnings: list[tuple[KeyPath, BadValue]]
    problems: list[tuple[KeyPath, BadValue]]
    unread: dict[KeyPath, str]  # references that only the service can read, by path; ``UNREAD`` stands for each

    @property
    def values(self) -> frozenset[str]:
        """Everything that references stood for."""
        return frozenset(value for values in self.held.values() for value in values)


class _Elsewhere(Exception):
    """What a reference names is not for this process to read."""


class Resolver:
    """Replaces references: files are looked for in ``directories``, one after the other.

    With ``files_elsewhere`` and ``variables_elsewhere`` those that cannot be read here are left to the service, see
    ``Resolved.unread``.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        environ: Mapping[str, str],
        *,
        files_elsewhere: bool = False,
        variables_elsewhere: bool = False,
    ) -> None:
        self._environ = environ
        self._directories = directories
        self._files_elsewhere = files_elsewhere
        self._variables_elsewhere = variables_elsewhere
        self._references: dict[KeyPath, str] = {}
        self._held: dict[KeyPath, list[str]] = {}
        self._warnings: list[tuple[KeyPath, BadValue]] = []
        self._problems: list[tuple[KeyPath, BadValue]] = []
        self._unread: dict[KeyPath, str] = {}
        self._found: dict[str, str | BadValue] = {}  # by what stands in the braces: each is read once
        self._room = _MOST_RESOLVED_BYTES

    def resolve(self, data: RawSettings) -> Resolved:
        """Return ``data`` with every reference replaced, and every one that cannot be."""
        resolved = self._walk(data, ())
        return Resolved(resolved, self._references, self._held, self._warnings, self._problems, self._unread)

    def _walk(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(child, (*path, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [self._walk(child, (*path, index)) for index, child in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, path: KeyPath) -> str:
        if text.count("${") > _MOST_REFERENCES:
            self._problems.append((path, _TOO_MUCH))
            return ""

        def replace(match: re.Match[str]) -> str:
            if match[0].startswith("$$"):
                return match[0][1:]  # an escaped reference is meant literally
            self._references[path] = text
            try:
                if match["inner"] is None:
                    raise _NEVER_CLOSED
                value = self._once(match["inner"])
            except _Elsewhere:
                self._unread[path] = match[0]
                return UNREAD
            except BadValue as bad:
                if (path, bad) not in self._problems[-1:]:  # the same one a thousand times is said once
                    self._problems.append((path, bad))
                return ""
            self._held.setdefault(path, []).append(value)
            if found := invisible_in(value):
                what = f"what {match[0]} holds {found}"
                self._warnings.append((path, BadValue("W011", what, "remove it there, unless it belongs to the value")))
            return value

        return _REFERENCE.sub(replace, text)

    def _once(self, inner: str) -> str:
        """Look a reference up, once, and only while all that they hold stays within what a configuration may be."""
        found = self._found.get(inner)
        if found is None:
            try:
                found = self._lookup(inner)
            except BadValue as bad:
                found = bad
            self._found[inner] = found
        if isinstance(found, BadValue):
            raise found
        self._room -= len(found)
        if self._room < 0:
            raise _TOO_MUCH
        return found

    def _lookup(self, inner: str) -> str:
        kind, colon, name = inner.partition(":")
        if not colon or kind not in ("file", "env") or not name:
            hint = (
                f"did you mean ${{env:{inner}}}?"
                if re.fullmatch(r"\w+", inner)
                else "write ${file:NAME} or ${env:NAME}"
            )
            raise BadValue("E041", f"${{{inner}}} is not a reference", f"{hint} ($${{ stands for a literal ${{)")
        return self._from_file(name) if kind == "file" else self._from_env(name)

    def _from_env(self, name: str) -> str:
        value = trimmed(self._environ.get(name, ""))
        if not value:
            if self._variables_elsewhere:
                raise _Elsewhere
            state = "is empty" if name in self._environ else "is not set"
            raise BadValue("E040", f"${{env:{name}}}: the environment variable {name} {state}")
        return value

    def _from_file(self, name: str) -> str:
        candidates = [directory / name for directory in self._directories]
        refused: BadValue | None = None
        for path in candidates:
            try:
                if not path.is_file():
                    continue
                with path.open("rb") as stream:
                    raw = stream.read(MAX_SECRET_BYTES + 1)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                why = (getattr(error, "strerror", None) or "not a file name").lower()
                bad = BadValue("E040", f"${{file:{name}}}: {path} cannot be read: {why}")
                if not isinstance(error, PermissionError):
                    raise bad from None
                refused = refused or bad  # another place may hold one that can be read
                continue
            return self._checked(raw, name, path)
        if self._files_elsewhere:
            raise _Elsewhere
        if refused is not None:
            raise refused
        tried = " and ".join(str(path) for path in candidates)
        raise BadValue("E040", f"${{file:{name}}}: there is no file {tried}", "create it, readable by the relay only")

    def _checked(self, raw: bytes, name: str, path: Path) -> str:
        if len(raw) > MAX_SECRET_BYTES:
            raise BadValue("E040", f"${{file:{name}}}: {path} is larger than {MAX_SECRET_BYTES // 1024} KiB")
        try:
            value = trimmed(raw.decode("utf-8"))
        except UnicodeDecodeError:
            hint = "save it as UTF-8" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""
            raise BadValue("E040", f"${{file:{name}}}: {path} is not UTF-8 text", hint) from None
        if not value:
            raise BadValue("E040", f"${{file:{name}}}: {path} is empty")
        return value


def scrub(text: str, values: frozenset[str]) -> str:
    """Return ``text`` with every resolved value in it hidden: the last net under messages that quote a setting."""
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 3:  # shorter ones would tear words apart, and guard nothing
            text = text.replace(value, MASK).replace(quoted(value)[1:-1], MASK)
    return text
