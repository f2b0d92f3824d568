"""Collects the secrets of a configuration, so that they can be taken out of what others say and of messages.

A secret is what a reference stands for, and every text of the file that is not shown (``showing.py``), each with the
forms it is sent in: the pair of a Basic login, the key within a ``whsec_`` secret.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote_plus

from relay.config.showing import hidden_texts
from relay.config.yamlsource import KeyPath

_GLOBAL: Final = ("ingest", "admin", "store")
_PART: Final = re.compile(r"[^\s,;=\"':]{8,}")  # of a header such as `key=..., id=...`


def known_secrets(data: Mapping[str, Any], held: Mapping[KeyPath, Sequence[str]], platform: str) -> frozenset[str]:
    """Return what must not be shown of ``platform``: its own secrets, its credential's, and those of the relay.

    ``data`` is the whole file, merged and resolved; ``held`` what the references at each path of it stood for.
    """
    own = data["platforms"][platform]
    places: list[tuple[KeyPath, Any]] = [(("platforms", platform), own), (("defaults",), data.get("defaults", {}))]
    places += [((name,), data[name]) for name in _GLOBAL if name in data]
    named = own.get("auth", {}).get("use")
    if named is not None:
        places.append((("credentials", named), data["credentials"][named]))
    found: set[str] = set()
    for path, value in places:
        found.update(hidden_texts(path, value))
        for at, values in held.items():
            if at[: len(path)] == path:
                found.update(values)
        found.update(_pairs(value.get("auth", value)))
    return frozenset(form for secret in found for form in _forms(secret))


def credential_secrets(auth: Mapping[str, Any]) -> frozenset[str]:
    """Return what must not be shown of a token endpoint's answers; ``auth`` is the credential, resolved."""
    found = {*hidden_texts(("credentials", ""), auth), *_pairs(auth)}
    return frozenset(form for secret in found for form in _forms(secret))


def _pairs(auth: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a login sends as one text: RFC 7617, and RFC 6749 section 2.3.1 for a client's."""
    if auth.get("password"):
        yield f"{auth.get('user', '')}:{auth['password']}"
    if auth.get("client_secret"):
        yield f"{quote(str(auth.get('client_id', '')), '')}:{quote(str(auth['client_secret']), '')}"


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield secret.strip()
    yield unquote_plus(secret)  # of a URL: what the platform reads there
    if secret.startswith("whsec_"):
        yield secret.removeprefix("whsec_")
    for part in _PART.findall(secret) if len(secret) < 4096 else ():
        yield part
        try:
            plain = base64.b64decode(part, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        if ":" in plain and plain.isprintable():  # a Basic login that was written down ready to send
            yield from (plain, plain.partition(":")[2])
