"""What no single value shows: settings that contradict each other, unknown names, and things worth a warning."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from relay.config.problems import BadValue, quoted
from relay.config.schema import Config
from relay.config.secrets import is_secret_key
from relay.config.translate import Finding, dotted
from relay.config.yamlsource import KeyPath

PLATFORMS: KeyPath = ("platforms",)
_LOOPBACK = ("localhost", "::1")


def contradictions(config: Config) -> Iterator[Finding]:
    """Yield what makes a configuration unusable although every value can be read."""
    if not config.platforms:
        yield _at(
            PLATFORMS, "E053", "there are no platforms", "add one: NAME: {url: https://...}", relies_on=[PLATFORMS]
        )
    if config.ingest.max_bulk < config.ingest.max_body:
        text = "ingest.max_bulk, a whole NDJSON request, is smaller than ingest.max_body, one payload of it"
        relies_on = [("ingest", "max_bulk"), ("ingest", "max_body")]
        yield _at(("ingest", "max_bulk"), "E051", text, relies_on=relies_on)
    yield from _listeners(config)
    names: dict[str, int] = {}
    for index, user in enumerate(config.admin.users):
        if names.setdefault(user.name, index) != index:
            yield _at(("admin", "users", index, "name"), "E052", f"the user {quoted(user.name)} is listed twice")
    for name, quota in config.quotas.items():
        yield from _burst(("quotas", name), quota)
    for name, platform in config.platforms.items():
        yield from _burst(("platforms", name), platform)
        for index, wanted in enumerate(platform.quotas):
            path = ("platforms", name, "quotas", index)
            if wanted not in config.quotas:
                close = get_close_matches(wanted, config.quotas, 1)
                known = f"known are {', '.join(config.quotas)}" if config.quotas else "add it under `quotas:`"
                hint = f"did you mean {close[0]!r}?" if close else known
                yield _at(
                    path,
                    "E050",
                    f"{dotted(path)}: there is no quota {quoted(wanted)}",
                    hint,
                    relies_on=[("quotas", wanted)],
                )
            elif wanted in platform.quotas[:index]:
                yield _at(path, "E051", f"{dotted(path)}: the quota {quoted(wanted)} is named twice")


def cautions(config: Config, data: dict[str, Any]) -> Iterator[Finding]:
    """Yield warnings; ``data`` is the file as written, references unresolved."""
    yield from _literal_secrets(data, ())
    used = {wanted for platform in config.platforms.values() for wanted in platform.quotas}
    for name in config.quotas:
        if name not in used:
            yield _at(("quotas", name), "W003", f"no platform uses the quota {quoted(name)}", at_key=True)
    for name, platform in config.platforms.items():
        for index, wanted in enumerate(platform.quotas):
            if platform.group is None and wanted in config.quotas and config.quotas[wanted].per == "group":
                place: KeyPath = ("platforms", name, "quotas", index)
                text = f"{dotted(place)}: {quoted(wanted)} is per group, but platforms.{name} has no group"
                yield _at(place, "W007", text, "set group:, such as shop_id; until then all its requests are one group")
    if not config.ingest.token:
        for index, address in enumerate(config.ingest.listen):
            if not _is_local(address):
                text = f"anyone who reaches {address} can post callbacks"
                yield _at(("ingest", "listen", index), "W006", text, "set ingest.token")
    limit_is_set = "max_body" in data.get("ingest", {})
    for name, platform in config.platforms.items():
        path: KeyPath = ("platforms", name, "url")
        parts = urlsplit(platform.url)
        if "@" in parts.netloc:
            yield _at(
                path,
                "W001",
                f"{dotted(path)} has credentials in it",
                "put them into headers as a ${file:...} reference",
            )
        elif parts.scheme == "http" and not _is_loopback(parts.hostname or "") and _sends_secret(platform.headers):
            yield _at(path, "W004", f"{dotted(path)}: its secret headers travel unencrypted over http", "use https")
        if limit_is_set and platform.batch.max_bytes < config.ingest.max_body:
            text = f"platforms.{name}: payloads above batch.max_bytes are refused, though ingest.max_body allows them"
            yield _at(("platforms", name, "batch", "max_bytes"), "W005", text)


def _at(
    path: KeyPath,
    code: str,
    message: str,
    hint: str = "",
    *,
    at_key: bool = False,
    relies_on: Sequence[KeyPath] = (),
) -> Finding:
    return Finding(path, BadValue(code, message, hint), at_key, (path, *relies_on))


def _burst(owner: KeyPath, section: Any) -> Iterator[Finding]:
    """Check a burst: above the smallest limit it could never happen, without a rate it means nothing."""
    if section.burst is None:
        return
    path = (*owner, "burst")
    if not section.rate:
        yield _at(path, "E051", f"{dotted(path)} needs a rate beside it", "add rate: N/min", relies_on=[owner])
        return
    tightest = min(section.rate, key=lambda rate: rate.limit)
    if section.burst > tightest.limit:
        what = f"{dotted(path)}: {section.burst} requests back to back exceed the rate {tightest}"
        yield _at(path, "E051", what, f"write {tightest.limit} or less, or leave it out", relies_on=[(*owner, "rate")])


def _listeners(config: Config) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for side, section in (("ingest", config.ingest), ("admin", config.admin)):
        if not section.listen:
            yield _at((side, "listen"), "E025", f"{side}.listen is an empty list", "name an address or leave it out")
        for index, address in enumerate(section.listen):
            path = (side, "listen", index)
            first = seen.setdefault(address, f"{side}.listen")
            is_own = first == f"{side}.listen" and section.listen.index(address) == index
            if not is_own and not address.endswith(":0"):
                what = f"{side}.listen: the address {address} is already used by {first}"
                yield _at(path, "E052", what, "give each listener its own port")
            if side == "admin" and not config.admin.users and not _is_local(address):
                what = f"admin.listen: {address} is not loopback, and without users anyone could pause and drop"
                yield _at(path, "E054", what, "add admin.users, or listen on 127.0.0.1", relies_on=[("admin", "users")])


def _is_local(address: str) -> bool:
    return address.startswith("unix:") or _is_loopback(address.rpartition(":")[0].strip("[]"))


def _is_loopback(host: str) -> bool:
    return host in _LOOPBACK or host.startswith("127.")


def _sends_secret(headers: dict[str, str]) -> bool:
    return any(is_secret_key((name,)) for name in headers)


def _literal_secrets(value: Any, path: KeyPath) -> Iterator[Finding]:
    """Yield each secret typed into the file itself."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _literal_secrets(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _literal_secrets(child, (*path, index))
    elif isinstance(value, str) and is_secret_key(path) and "${" not in value:
        text = f"{dotted(path)} holds a secret in the file itself"
        yield _at(path, "W002", text, "keep it in a file of its own and write ${file:NAME}")
