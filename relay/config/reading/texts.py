"""Reads the texts of a configuration that have a form of their own: names, URLs, addresses, expressions.

Like ``units``, every function raises ``BadValue`` with what to write instead.
"""

import base64
import ipaddress
import re
from typing import Any
from unicodedata import normalize
from urllib.parse import urlsplit

import jmespath
from jmespath.exceptions import JMESPathError

from relay.config.problems import BadValue, quoted
from relay.config.reading.server_urls import SERVER_SCHEMES, parse_server_url
from relay.wire.answers.json_path import JsonPath
from relay.wire.payload.target import Target
from relay.wire.regex import Pattern

MAX_NAME = 64
_MOST_URL = 8000  # what servers are told to take (RFC 9110 section 4.1)
_MOST_PATH = 2000  # characters of a JMESPath expression: whoever needs more of them has a program
_OWN_HEADERS = frozenset(
    {
        *(
            "content-length",
            "content-encoding",
            "transfer-encoding",
            "connection",
            "expect",
            "upgrade",
            "te",
            "trailer",
        ),
        *("idempotency-key", "relay-attempt"),
    }
)
KEY_BYTES = 32


def parse_name(value: Any) -> str:
    """Return a platform's, quota's or user's name: it stands in URLs and metrics.

    Letters are those of any script, such as ``淘宝``. A second form of a letter is refused: full-width ``ｓｈｏｐ``.
    """
    if not isinstance(value, str):
        raise BadValue("E026", f"{quoted(value)} cannot be a name", "put it in quotes")
    usable = re.fullmatch(r"[^\W_][\w.-]*", value) and normalize("NFKC", value) == value
    if not usable or len(value) > MAX_NAME:
        why = "names start with a letter or digit" if value[:1] in "_-." else "only letters, digits, - _ . are allowed"
        raise BadValue("E026", f"{quoted(value)} cannot be a name", f"{why}, at most {MAX_NAME} characters")
    return value


def parse_jmespath(value: Any) -> str:
    """Return a JMESPath expression that compiles (https://jmespath.org/specification.html)."""
    if not isinstance(value, str):
        raise BadValue("E027", f"{quoted(value)} is not a JMESPath expression", "write a path as text: order.id")
    if len(value) > _MOST_PATH:
        raise BadValue("E027", f"the JMESPath expression has {len(value)} characters, more than {_MOST_PATH}")
    try:
        jmespath.compile(value)
    except RecursionError:
        raise BadValue("E027", f"{quoted(value)} is nested too deeply for a JMESPath expression") from None
    except JMESPathError as error:
        offset = int(getattr(error, "lex_position", 0) or 0)
        raise BadValue(
            "E027", f"{quoted(value)} is not a JMESPath expression", _path_hint(value), offset=offset
        ) from None
    return value


def parse_answer_path(value: Any) -> JsonPath:
    """Return a compiled JMESPath into an answer's JSON body."""
    return JsonPath(parse_jmespath(value))


def _path_hint(value: str) -> str:
    if value.startswith(("$.", "/")):
        return f"did you mean {value.lstrip('$./').replace('/', '.')}?"
    if re.fullmatch(r"[\w.-]+", value) and re.search(r"-|(?:^|\.)[0-9]", value):
        return 'names with - or a leading digit need quotes: "order-id"'
    return "see https://jmespath.org"


def parse_regex(value: Any) -> Pattern:
    """Return a compiled regular expression (RE2 syntax, https://github.com/google/re2/wiki/Syntax)."""
    if not isinstance(value, str):
        raise BadValue("E028", f"{quoted(value)} is not a regular expression", "put it in quotes")
    try:
        return Pattern(value)
    except ValueError as error:
        why, offset, hint = str(error), *_what_python_says(value)
        raise BadValue("E028", f"{quoted(value)} is not a regular expression: {why}", hint, offset=offset) from None


def _what_python_says(pattern: str) -> tuple[int, str]:
    """Return where a pattern goes wrong, which RE2 does not tell, or a hint where only Python's engine takes it."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return getattr(error, "pos", None) or 0, ""
    hint = "look-around, back-references and \\Z are not supported, and repetitions up to 1000: write several rules"
    return 0, hint


def parse_url(value: Any) -> str:
    """Return an absolute http(s) URL with a host."""
    if not isinstance(value, str):
        raise BadValue("E024", f"{quoted(value)} is not a URL", "write https://host/path")
    if len(value) > _MOST_URL:
        raise BadValue("E024", f"the URL has {len(value)} characters, more than {_MOST_URL}")
    try:
        target = Target(method="POST", url=value)
    except ValueError as error:
        said = str(error).splitlines()[0]  # jmespath draws the place on lines of its own
        raise BadValue("E027" if said.startswith("JMESPath") else "E024", f"the URL {quoted(value)}: {said}") from None
    # What stands in braces may hold anything a URL may not: the rest is checked without it.
    bare = re.sub(r"\{[^{}]*\}", "x", value) if target.has_fields else value
    if re.search(r"[\s\x00-\x1f\x7f]", bare):
        raise BadValue("E024", "the URL has white space in it")
    try:
        parts = urlsplit(bare)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadValue("E024", f"the URL cannot be read: {error}".lower()) from None
    if parts.scheme not in ("http", "https"):
        bare_host = value.lstrip("/")
        scheme = "http" if re.match(r"127\.|localhost\b|\[::1\]", bare_host) else "https"
        hint = "" if "://" in value else f"did you mean {scheme}://{bare_host}?"
        what = f"the URL's scheme is {parts.scheme!r}" if "://" in value else "the URL has no scheme"
        raise BadValue("E024", f"{what}; platforms are reached by http or https", hint)
    if not host or port == 0:
        raise BadValue("E024", "the URL names no host" if not host else "the URL's port is 0")
    if ".." in host or host.startswith("."):
        raise BadValue("E024", f"the URL's host {quoted(host)} has an empty part between its dots")
    if parts.fragment or bare.endswith("#"):
        raise BadValue("E024", "the URL has a fragment (#...), which is never sent", "remove it")
    return value


def parse_plain_url(value: Any) -> str:
    """Return an absolute http(s) URL in which nothing is filled in."""
    if isinstance(value, str) and re.search(r"[{}]", value):
        raise BadValue(
            "E024", "the URL has braces in it, and nothing is filled in here", "write %7B or %7D for a brace"
        )
    return parse_url(value)


def parse_listen(value: Any) -> str:
    """Return ``host:port`` (IPv6 in brackets) or ``unix:/path``."""
    example = "write host:port such as 127.0.0.1:8787, or unix:/path"
    if not isinstance(value, str):
        hint = f'write "127.0.0.1:{value}"' if isinstance(value, int) and not isinstance(value, bool) else example
        raise BadValue("E025", f"{quoted(value)} is not an address", hint)
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/"):
            raise BadValue(
                "E025", f"the socket path of {quoted(value)} is not absolute", "write unix:/run/relay/relay.sock"
            )
        if len(path.encode()) > 107:
            raise BadValue("E025", f"the socket path of {quoted(value)} is longer than the kernel's 107 bytes")
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host:
        hint = f"write 127.0.0.1:{port}" if port.isdigit() else example
        raise BadValue("E025", f"{quoted(value)} is not an address", hint)
    if not port.isascii() or not port.isdigit() or int(port[:9]) > 65535:
        raise BadValue("E025", f"{quoted(port)} is not a port", "ports go from 0 (any free one) to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if bracketed or ":" in host:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            raise BadValue("E025", f"{quoted(host)} is not an IPv6 address", example) from None
        if not bracketed:
            raise BadValue("E025", f"{quoted(value)} is ambiguous", f'write "[{host}]:{port}"')
    elif not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise BadValue("E025", f"{quoted(host)} is not a host", example)
    return value


def parse_store_prefix(value: Any) -> str:
    """Return how names of keys begin: letters, digits, ``_``, ``.`` and ``-``, so that no name reads as another's."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise BadValue("E031", f"{quoted(value)} is no prefix", "write letters, digits, _ . -, such as relay")
    return value


def parse_store_url(value: Any) -> str:
    """Return ``sqlite:PATH`` or the URL of a server that several hosts share."""
    if not isinstance(value, str) or not value:
        raise BadValue("E031", f"{quoted(value)} is not a store", "write sqlite:relay.db")
    scheme, colon, rest = value.partition(":")
    if colon and scheme in SERVER_SCHEMES:
        parse_server_url(value)
        return value
    if scheme != "sqlite" or not colon:
        hint = f"did you mean sqlite:{value}?" if not colon else "write sqlite:relay.db"
        raise BadValue("E031", "the store's URL must start with sqlite: or redis:", hint)
    if rest.startswith("//") or rest == ":memory:":
        hint = f"write sqlite:/{rest.lstrip('/')}" if rest.startswith("//") else "name a file: accepted means on disk"
        raise BadValue("E031", f"{quoted(value)} is not a store", hint)
    if not rest or rest.endswith("/") or "\0" in rest:
        raise BadValue("E031", "the store's URL names no file", "write sqlite:relay.db")
    return value


def parse_utc_offset(value: Any) -> float:
    """Return seconds east of UTC of ``+08:00``, ``-05:30`` or ``UTC``."""
    if value in ("UTC", "Z"):
        return 0.0
    match = re.fullmatch(r"([+-])([0-9][0-9]):([0-9][0-9])", value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        raise BadValue("E031", f"{quoted(value)} is not a UTC offset", 'write "+08:00" or UTC')
    seconds = int(match[2]) * 3600.0 + int(match[3]) * 60.0
    return -seconds if match[1] == "-" else seconds


def parse_secret(value: Any) -> str:
    """Return a token that can stand in an HTTP header."""
    if not isinstance(value, str):
        raise BadValue("E013", "a token must be text", "put it in quotes")
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise BadValue("E031", "a token must be printable ASCII without spaces, and not empty")
    return value


def parse_sent_name(value: str) -> str:
    """Return the name of an extra request header, which is none of those that the relay sets itself."""
    if parse_header_name(value).lower() in _OWN_HEADERS:
        raise BadValue("E029", f"the relay sets the header {value} itself", "remove it")
    return value


def parse_sent_value(value: str) -> str:
    """Return the value of an extra request header, which HTTP can carry."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) or value != value.strip():
        raise BadValue("E029", "the value has a line break or white space at its ends")
    return value


def each_once(value: dict[str, str]) -> dict[str, str]:
    """Return headers of which none is given twice; capitals make no difference (RFC 9110 section 5.1)."""
    seen: set[str] = set()
    for name in value:
        if name.lower() in seen:
            raise BadValue("E029", "the header is given twice", at=(name,))
        seen.add(name.lower())
    return value


def parse_secret_text(value: Any) -> str:
    """Return a secret of any form: a password, a key, a PEM file's text."""
    if not isinstance(value, str):
        raise BadValue("E013", "a secret must be text", "put it in quotes")
    if not value:
        raise BadValue("E031", "a secret must not be empty")
    return value


def parse_text(value: Any) -> str:
    """Return a text that is not empty and stays on its line."""
    if not isinstance(value, str):
        raise BadValue("E013", f"{quoted(value)} must be text", "put it in quotes")
    if not value or re.search(r"[\r\n\0]", value):
        raise BadValue("E031", "the text is empty" if not value else "the text has a line break in it")
    return value


def parse_header_name(value: Any) -> str:
    """Return the name of a header (RFC 9110 section 5.1)."""
    if not isinstance(value, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise BadValue("E029", f"{quoted(value)} is not a header's name", "write a name such as Retry-After")
    return value


def parse_token_key(value: Any) -> bytes:
    """Return the 32 bytes of a key written as 64 hex digits or as base64."""
    if not isinstance(value, str):
        raise BadValue("E013", "a key must be text", "put it in quotes")
    text = value.strip()
    try:
        key = bytes.fromhex(text) if re.fullmatch(r"[0-9A-Fa-f]{64}", text) else base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadValue("E031", f"the key must be {KEY_BYTES} bytes, as 64 hex digits or base64", "openssl rand -hex 32")
    return key
