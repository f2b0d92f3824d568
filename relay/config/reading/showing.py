"""Says what of the settings may be shown. What is not known to be harmless is hidden, and hidden texts are secrets.

A key of the schema whose values cannot be secret is shown. Where names are free (headers, query, parameters, fixed
fields) only values under names known as harmless are shown; of a URL not its login, and of its path what looks like
words. A reference, ``${file:NAME}``, is always shown as written. The same pieces that are hidden here are taken out of
whatever a platform answers (``known_secrets.py``) and out of messages about the file.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from relay.config.reading.yaml_source import KeyPath

MASK: Final = "***"
_MOST_DIGITS: Final = 600

_REFERENCE: Final = r"(?<!\$)\$\{[^{}]*\}"
_ATOM: Final = re.compile(rf"({_REFERENCE}|\{{[^{{}}]*\}})")  # a reference, or a field that is filled in
_ONLY_REFERENCES: Final = re.compile(rf"({_REFERENCE})")
_SECRET_KEY: Final = re.compile(
    r"token|passw|pwd|secret|credential|private[_-]?key|api[_-]?key|access[_-]?key|authorization|proxy_auth|cookie|"
    r"signature",
    re.IGNORECASE,
)
_SEALING: Final = ("privacy", "encrypt")  # elsewhere a key is a path into payloads
_NO_SECRETS: Final = frozenset(("token_url", "secret_name", "secret_encoding", "timestamp_header"))
_FREE: Final = frozenset(("headers", "params", "signed_only", "vars", "static"))
_PATHS: Final = frozenset(("item", "body"))  # mappings from names to JMESPath
_TEMPLATES: Final = frozenset(("pre", "post", "over", "prefix", "join", "pair", "body"))
_NEVER_TEXT: Final = frozenset(("auth", "sign", "headers", "credentials", "users"))  # a text there is a mistake
_HARMLESS: Final = frozenset(
    (
        *("accept", "accept_encoding", "accept_language", "accept_charset", "content_type", "content_language"),
        *("user_agent", "cache_control", "connection", "host", "origin", "referer", "date", "prefer", "expect"),
        *("v", "ver", "version", "api_version", "method", "action", "format", "type", "kind", "mode", "data_type"),
        *("sign_method", "sign_type", "sign_version", "grant_type", "charset", "encoding", "lang", "language"),
        *("locale", "region", "country", "currency", "environment", "env", "event", "topic", "source", "channel"),
        *("page", "limit", "offset", "size", "timestamp", "tz", "timezone", "dry_run", "strict", "status"),
        *("appid", "app_id", "client_id", "shop_id", "seller_id", "merchant_id", "store_id", "project_id"),
    )
)
_SCHEME: Final = re.compile(r"(?:Bearer|Basic|Token|Digest) ", re.IGNORECASE)
_LITERAL: Final = re.compile(r"('(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`)")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
# notify, v2, 2.0, wx-notify.php, getOrder, online_send: words and short numbers, not what was drawn by lot
_WORD: Final = (
    r"(?:[a-z]{1,16}|[A-Z]{1,8}|[A-Z]?[a-z]{1,16}(?:[A-Z](?:[a-z]{2,15}|d|s|y|o))*"
    r"|(?:v|V|sha|md|utf|http|oauth)?\d{1,4})"
)
_WORDS: Final = re.compile(rf"{_WORD}(?:[-_.,:+]+{_WORD})*")
_RUN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+/=_.-]*")


class Piece(NamedTuple):
    """A part of a setting's text, and whether it is hidden."""

    text: str
    hidden: bool


def masked(path: KeyPath, value: Any) -> Any:
    """Return a setting as it may be shown: references as written, what may be a secret as ``***``."""
    if isinstance(value, dict):
        return {key: masked((*path, key), child) for key, child in value.items()}
    if isinstance(value, list):
        return [masked((*path, index), child) for index, child in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    parts = pieces(path, _written(value))
    if not any(piece.hidden for piece in parts):
        return value
    return re.sub(r"(?:\*\*\*)+", MASK, "".join(MASK if piece.hidden else piece.text for piece in parts))


def hidden_texts(path: KeyPath, value: Any) -> Iterator[str]:
    """Yield every text in a setting, and below it, that is not shown."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from hidden_texts((*path, key), child)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from hidden_texts((*path, index), child)
    elif value is not None and not isinstance(value, bool):
        yield from (piece.text for piece in pieces(path, _written(value)) if piece.hidden)


def is_secret_key(path: KeyPath) -> bool:
    """Tell whether a setting's own name says that its value is a secret."""
    name = _name(path)  # a list's items are its key's
    if path[:2] == _SEALING:
        return name in ("key", "previous", "token")
    return name not in _NO_SECRETS and _SECRET_KEY.search(name) is not None


def pieces(path: KeyPath, text: str) -> list[Piece]:
    """Return the parts of a text that stands at ``path``, none of them empty."""
    inner = _below_owner(path)
    name, around = _name(inner), frozenset(inner[:-1])
    if around & _PATHS and "reply" not in around:
        return list(_of_jmespath(text, _is_harmless(name)))
    if around & _FREE:
        return list(_of_free(name, text, filled_in="sign" in around))
    if is_secret_key(inner) or inner[-1:] in [(never,) for never in _NEVER_TEXT]:
        return list(_after_scheme(text))
    if "://" in text or name in ("url", "token_url", "proxy"):
        return list(_of_url(text))
    if name in _TEMPLATES:
        shown = _ONLY_REFERENCES if name == "body" else _ATOM
        return [part for piece in _split(shown, text) for part in (_words(piece.text) if piece.hidden else [piece])]
    return [Piece(text, False)] if text else []


def _written(value: Any) -> str:
    """Return a value as text; the interpreter does not write integers of thousands of digits (CVE-2020-10735)."""
    return str(value) if not isinstance(value, int) or abs(value) < 10**_MOST_DIGITS else "9" * _MOST_DIGITS


def _name(path: KeyPath) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _below_owner(path: KeyPath) -> KeyPath:
    """Return a path without the name that its user gave, which says nothing."""
    if path[:2] == ("alerts", "targets") and len(path) > 3:
        return path[3:]
    return path[2:] if path[:1] in (("platforms",), ("credentials",), ("quotas",)) and len(path) > 2 else path


def _is_harmless(name: str) -> bool:
    return name.lower().replace("-", "_").removeprefix("x_") in _HARMLESS


def _split(shown: re.Pattern[str], text: str) -> Iterator[Piece]:
    """Yield the parts that match as shown, and what is between them as hidden."""
    for at, part in enumerate(shown.split(text)):
        if part:
            yield Piece(part, hidden=at % 2 == 0)


def _of_free(name: str, text: str, *, filled_in: bool) -> Iterator[Piece]:
    if _is_harmless(name):
        yield from [Piece(text, False)] if text else []
    else:
        yield from _after_scheme(text, atoms=_ATOM if filled_in else _ONLY_REFERENCES)


def _after_scheme(text: str, *, atoms: re.Pattern[str] = _ONLY_REFERENCES) -> Iterator[Piece]:
    """Yield the name of an authorization scheme as shown, and of what follows the references."""
    scheme = _SCHEME.match(text)
    if scheme is not None:
        yield Piece(scheme[0], False)
        text = text[scheme.end() :]
    yield from _split(atoms, text)


def _of_jmespath(text: str, harmless: bool) -> Iterator[Piece]:
    """Yield a path as shown but for the constants in it; an empty or very short one is no secret."""
    for at, part in enumerate(_LITERAL.split(text)):
        if at % 2 and not harmless and len(part) > 4:
            yield from (Piece(part[0], False), Piece(part[1:-1], True), Piece(part[-1], False))
        elif part:
            yield Piece(part, False)


def _of_url(url: str) -> Iterator[Piece]:
    held: list[str] = []

    def hold(found: re.Match[str]) -> str:
        held.append(found[0])
        return f"\0{len(held) - 1}\0"  # a slash or question mark in it ends no part of the URL

    def atoms(text: str, *, hidden: bool) -> Iterator[Piece]:
        for at, part in enumerate(re.split(r"\0(\d+)\0", text)):
            if part:
                yield Piece(held[int(part)], False) if at % 2 else Piece(part, hidden)

    bare = _ATOM.sub(hold, url.replace("\0", ""))
    found = _URL.fullmatch(bare)
    try:
        urlsplit(re.sub(r"\0\d+\0", "x", bare))
    except ValueError:
        found = None
    if found is None:
        yield Piece(url, True)
        return
    scheme, authority, path, query, fragment = (part or "" for part in found.groups())
    login, at, host = authority.rpartition("@")
    yield from atoms(scheme, hidden=False)
    yield from atoms(login, hidden=True)
    yield from atoms(at + host, hidden=re.search(r"[^\w.:\[\]%\0-]", host) is not None)
    for part in re.split(r"(/)", path):
        yield from atoms(part, hidden=not is_word(re.sub(r"\0\d+\0", "", part)))
    for part in re.split(r"([?&;])", query):
        name, equals, value = part.partition("=")
        yield from atoms(name + equals, hidden=not (equals or is_word(name)))
        yield from atoms(value, hidden=not _is_harmless(name))
    yield from atoms(fragment, hidden=True)


def _words(text: str) -> Iterator[Piece]:
    """Yield a text with the runs hidden that are no words."""
    end = 0
    for run in _RUN.finditer(text):
        if not is_word(run[0]):
            yield from [Piece(text[end : run.start()], False)] if run.start() > end else []
            yield Piece(run[0], True)
            end = run.end()
    yield from [Piece(text[end:], False)] if end < len(text) else []


def is_word(text: str) -> bool:
    """Tell whether a text is made of words and short numbers, or of signs alone, as no drawn secret is."""
    return not re.search(r"[A-Za-z0-9]", text) or _WORDS.fullmatch(text.strip("-_.,:+=?&;/")) is not None
