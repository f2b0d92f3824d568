"""Collects the secrets of a configuration, so that they can be taken out of what others say and of messages.

A secret is what a reference stands for, and every text of the file that is not shown (``showing.py``), each with the
forms it is sent in: the pair of a Basic login, the key within a ``whsec_`` secret.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote_plus

from relay.config.reading.showing import hidden_texts, is_word
from relay.config.reading.yaml_source import KeyPath, RawSettings
from relay.core.receipts import RECEIPTS

_GLOBAL: Final = ("ingest", "admin", "store", "privacy")
_NAMED: Final = ("platforms", "credentials")
_PART: Final = re.compile(r"[^\s,;=\"':]{6,}")  # of a header such as `key=..., id=...`


def known_secrets(data: RawSettings, held: Mapping[KeyPath, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Return what must not be shown of answers: the owner's secrets, its credential's and the relay's own.

    Owners are platforms by name and alert targets by ``target_owner``.

    ``data`` is the whole file, merged and resolved; ``held`` what the references at each path of it stood for.
    """
    referred: dict[KeyPath, set[str]] = {}
    for path, values in held.items():
        length = {"defaults": 1, "receipts": 1, "alerts": 3}.get(str(path[0]), 2 if path[0] in _NAMED else 0)
        referred.setdefault(path[:length], set()).update(values)
    shared = {text for name in _GLOBAL if name in data for text in hidden_texts((name,), data[name])}
    shared |= {*referred.get((), ()), *referred.get(("defaults",), ())}
    credentials = {
        name: {*hidden_texts(("credentials", name), auth), *_pairs(auth), *referred.get(("credentials", name), ())}
        for name, auth in data.get("credentials", {}).items()
    }
    owners: list[tuple[str, KeyPath, RawSettings]] = [
        *((name, ("platforms", name), own) for name, own in data["platforms"].items()),
        *((target_owner(name), ("alerts", "targets", name), own) for name, own in _targets(data).items()),
    ]
    if "receipts" in data:
        owners.append((RECEIPTS, ("receipts",), data["receipts"]))
    found = {}
    for owner, where, own in owners:
        auth = own.get("auth", {})
        secrets = {*hidden_texts(where, own), *_pairs(auth), *referred.get(where, ())}
        secrets |= shared | credentials.get(auth.get("use", ""), set())
        found[owner] = frozenset(form for secret in secrets for form in _forms(secret))
    return found


def target_owner(name: str) -> str:
    """Return the name under which an alert target's secrets and credential go; no platform can have it."""
    return f"alert:{name}"


def _targets(data: RawSettings) -> Mapping[str, RawSettings]:
    targets: Mapping[str, RawSettings] = data.get("alerts", {}).get("targets", {})
    return targets


def credential_secrets(auth: RawSettings) -> frozenset[str]:
    """Return what must not be shown of a token endpoint's answers; ``auth`` is the credential, resolved."""
    found = {*hidden_texts(("credentials", ""), auth), *_pairs(auth)}
    return frozenset(form for secret in found for form in _forms(secret))


def _pairs(auth: RawSettings) -> Iterator[str]:
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
    if "\n" not in secret:
        yield secret.partition(":")[2]  # of a login
    for part in _PART.findall(secret) if len(secret) < 4096 else ():
        if is_word(part):
            continue
        yield part
        try:
            plain = base64.b64decode(part, validate=True).decode()
        except ValueError:  # not base64, or not of a text
            continue
        if ":" in plain and plain.isprintable():  # a Basic login that was written down ready to send
            yield from (plain, plain.partition(":")[2])
