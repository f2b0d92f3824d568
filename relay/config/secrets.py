"""Resolves ``${file:name}`` and ``${env:NAME}`` in text values, and masks secrets wherever settings are shown.

References are replaced after parsing, in string values only, so what a file or variable holds can never become YAML
structure. Shown settings keep the reference as written; a secret typed into the file itself is masked.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from relay.config.problems import BadValue, quoted
from relay.config.yamlsource import KeyPath

MASK = "***"
MAX_SECRET_BYTES = 64 * 2**10  # a private key is 4 KiB; more is the wrong file

_REFERENCE = re.compile(r"\$?\$\{([^{}]*)\}")
_SECRET_KEY = re.compile(
    r"token|passw|secret|credential|private[_-]?key|api[_-]?key|access[_-]?key|authorization|cookie|signature",
    re.IGNORECASE,
)
_NO_SECRETS = frozenset(("token_url", "secret_name", "secret_encoding"))  # settings about one, that hold none
_SECRET_PARAMETERS = ("key", "sig", "sign")


class Resolved(NamedTuple):
    """Data with references replaced; ``references`` holds the text as written for each path that had one."""

    data: dict[str, Any]
    references: dict[KeyPath, str]
    values: frozenset[str]  # what the references stood for, to keep it out of messages
    problems: list[tuple[KeyPath, BadValue]]


class Resolver:
    """Replaces references, relative to ``$CREDENTIALS_DIRECTORY`` where systemd gives one, else to ``directory``."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._environ = environ
        given = environ.get("CREDENTIALS_DIRECTORY")
        self._directories = [Path(given), directory] if given else [directory]
        self._references: dict[KeyPath, str] = {}
        self._values: set[str] = set()
        self._problems: list[tuple[KeyPath, BadValue]] = []

    def resolve(self, data: dict[str, Any]) -> Resolved:
        """Return ``data`` with every reference replaced, and every one that cannot be."""
        resolved = self._walk(data, ())
        return Resolved(resolved, self._references, frozenset(self._values), self._problems)

    def _walk(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: self._walk(child, (*path, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [self._walk(child, (*path, index)) for index, child in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, path: KeyPath) -> str:
        def replace(match: re.Match[str]) -> str:
            if match[0].startswith("$$"):
                return match[0][1:]  # an escaped reference is meant literally
            self._references[path] = text
            try:
                value = self._lookup(match[1])
            except BadValue as bad:
                self._problems.append((path, bad))
                return ""
            self._values.add(value)
            return value

        return _REFERENCE.sub(replace, text)

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
        value = self._environ.get(name, "")
        if not value:
            state = "is empty" if name in self._environ else "is not set"
            raise BadValue("E040", f"${{env:{name}}}: the environment variable {name} {state}")
        return value

    def _from_file(self, name: str) -> str:
        candidates = [directory / name for directory in self._directories]
        for path in candidates:
            try:
                if not path.is_file():
                    continue
                with path.open("rb") as stream:
                    raw = stream.read(MAX_SECRET_BYTES + 1)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                why = (getattr(error, "strerror", None) or "not a file name").lower()
                raise BadValue("E040", f"${{file:{name}}}: {path} cannot be read: {why}") from None
            return self._checked(raw, name, path)
        tried = " and ".join(str(path) for path in candidates)
        raise BadValue("E040", f"${{file:{name}}}: there is no file {tried}", "create it, readable by the relay only")

    def _checked(self, raw: bytes, name: str, path: Path) -> str:
        if len(raw) > MAX_SECRET_BYTES:
            raise BadValue("E040", f"${{file:{name}}}: {path} is larger than {MAX_SECRET_BYTES // 1024} KiB")
        try:
            value = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadValue("E040", f"${{file:{name}}}: {path} is not UTF-8 text") from None
        if not value:
            raise BadValue("E040", f"${{file:{name}}}: {path} is empty")
        return value


def is_secret_key(path: KeyPath) -> bool:
    """Tell whether a setting's own name says that its value is a secret."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "")  # a list's items are its key's
    return name not in _NO_SECRETS and _SECRET_KEY.search(name) is not None


def masked(path: KeyPath, value: Any) -> Any:
    """Return a setting as it may be shown: references as written, literal secrets and URL credentials hidden."""
    if not isinstance(value, str):
        return MASK if is_secret_key(path) and value is not None else value
    if is_secret_key(path):
        return _mask_around_references(value)
    if "://" in value:
        return mask_url(value)
    return value


def mask_url(url: str) -> str:
    """Return a URL without its user, password and query values."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    netloc = parts.netloc
    if "@" in netloc:
        credentials, _, host = netloc.rpartition("@")
        netloc = f"{_mask_around_references(credentials)}@{host}"
    query = "&".join(
        f"{name}={_mask_around_references(value)}"
        if is_secret_key((name,)) or name in _SECRET_PARAMETERS
        else name + equals + value
        for name, equals, value in (pair.partition("=") for pair in parts.query.split("&"))
    )
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))


def _mask_around_references(text: str) -> str:
    """Hide all but references and the name of an authorization scheme."""
    references = [match[0] for match in _REFERENCE.finditer(text) if not match[0].startswith("$$")]
    scheme = re.match(r"(?:Bearer|Basic|Token) ", text)
    lead = scheme[0] if scheme else ""
    whole = lead + "".join(references)
    return text if references and text == whole else lead + ("".join(references) or MASK)


def scrub(text: str, values: frozenset[str]) -> str:
    """Return ``text`` with every resolved value in it hidden: the last net under messages that quote a setting."""
    for value in sorted(values, key=len, reverse=True):
        if len(value) > 3:  # shorter ones would tear words apart, and guard nothing
            text = text.replace(value, MASK).replace(quoted(value)[1:-1], MASK)
    return text
