"""What no single value shows: settings that contradict each other, unknown names, and things worth a warning."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.config.alert_checks import alert_contradictions
from relay.config.comparable import reconcile_contradictions
from relay.config.limit_checks import bursts, counted, named_limits, reserves, shares
from relay.config.listener_checks import (
    is_local,
    is_loopback,
    listener_certificates,
    listener_contradictions,
    may_read,
)
from relay.config.problems import BadValue, nearest, quoted
from relay.config.reading.invisible_characters import invisible_in
from relay.config.reading.showing import hidden_texts, is_secret_key
from relay.config.reading.yaml_source import KeyPath, RawSettings
from relay.config.report.translate import PlacedProblem, dotted, problem_at
from relay.config.schema.auth import OAuth2Auth, UseAuth
from relay.config.schema.file import Config
from relay.config.schema.item_results import unreachable
from relay.config.schema.platform import PlatformSection
from relay.config.schema.rules import RuleSection
from relay.config.schema.sign import MessageSign
from relay.config.trial_request import request_problems
from relay.config.view_checks import view_contradictions, view_warnings
from relay.core.model import UNROUTED
from relay.wire.answers.results import OUTCOMES

PLATFORMS: KeyPath = ("platforms",)
_IDS = ("user", "client_id", "key_id", "scope")


def contradictions(config: Config) -> Iterator[PlacedProblem]:
    """Yield what makes a configuration unusable although every value can be read."""
    if not config.destinations:
        yield problem_at(
            PLATFORMS, "E053", "there are no platforms", "add one: NAME: {url: https://...}", relies_on=[PLATFORMS]
        )
    if config.ingest.max_bulk < config.ingest.max_body:
        text = "ingest.max_bulk, a whole NDJSON request, is smaller than ingest.max_body, one payload of it"
        relies_on = [("ingest", "max_bulk"), ("ingest", "max_body")]
        yield problem_at(("ingest", "max_bulk"), "E051", text, relies_on=relies_on)
    yield from listener_contradictions(config)
    yield from _users(config)
    for name, quota in config.quotas.items():
        yield from bursts(("quotas", name), quota)
        yield from named_limits(("quotas", name), quota)
        yield from reserves(("quotas", name), quota)
        yield from counted(("quotas", name), quota)
    for name, target in config.alerts.targets.items():
        if isinstance(target, PlatformSection):
            yield from _rules(("alerts", "targets", name), target)
            yield from _fields(("alerts", "targets", name), target)
    for name, platform in config.platforms.items():
        yield from bursts(("platforms", name), platform)
        yield from counted(("platforms", name), platform)
        yield from shares(("platforms", name), platform)
        yield from _rules(("platforms", name), platform)
        yield from _fields(("platforms", name), platform)
        for index, wanted in enumerate(platform.quotas):
            path = ("platforms", name, "quotas", index)
            if wanted not in config.quotas:
                hint = nearest(wanted, config.quotas) or "add it under `quotas:`"
                yield problem_at(
                    path,
                    "E050",
                    f"{dotted(path)}: there is no quota {quoted(wanted)}",
                    hint,
                    relies_on=[("quotas", wanted)],
                )
            elif wanted in platform.quotas[:index]:
                yield problem_at(path, "E051", f"{dotted(path)}: the quota {quoted(wanted)} is named twice")
    yield from _routes(config)
    yield from _paths(config)
    yield from alert_contradictions(config)
    yield from view_contradictions(config)
    if config.telemetry.otlp is not None and find_spec("opentelemetry") is None:
        otlp: KeyPath = ("telemetry", "otlp")
        what = "telemetry.otlp needs the libraries of OpenTelemetry"
        yield problem_at(otlp, "E072", what, "install callback-relay[otel]", relies_on=[otlp])
    yield from reconcile_contradictions(config)
    yield from request_problems(config)


def _users(config: Config) -> Iterator[PlacedProblem]:
    """Check that names and tokens tell users apart: the audit log says who it was by the token."""
    names: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for index, user in enumerate(config.admin.users):
        path: KeyPath = ("admin", "users", index)
        if names.setdefault(user.name, index) != index:
            yield problem_at((*path, "name"), "E052", f"the user {quoted(user.name)} is listed twice")
        if (first := tokens.setdefault(user.token, index)) != index:
            other = config.admin.users[first].name
            what = f"{dotted(path)}: {quoted(user.name)} has the token of {quoted(other)}, and cannot be told from it"
            relies_on = [("admin", "users", first, "token")]
            yield problem_at((*path, "token"), "E052", what, "give each user a token of its own", relies_on=relies_on)


def _routes(config: Config) -> Iterator[PlacedProblem]:
    """Check that every route can be reached, and leads somewhere."""
    last: int | None = None
    for index, route in enumerate(config.routes):
        path: KeyPath = ("routes", index)
        if last is not None:
            text = f"{dotted(path)} is never reached: routes[{last}] takes what is left"
            hint = "let `otherwise` be the last entry"
            yield problem_at(path, "E064", text, hint, at_key=True, relies_on=[("routes", last, "otherwise")])
        elif route.otherwise is not None:
            last = index
        else:
            earlier = next((at for at, other in enumerate(config.routes[:index]) if other.takes_all_of(route)), None)
            if earlier is not None:
                text = f"{dotted(path)} is never reached: routes[{earlier}] takes all that it matches"
                hint = "the first match decides: put the narrower route first"
                yield problem_at(path, "E064", text, hint, at_key=True, relies_on=[("routes", earlier, "match")])
        lists: list[tuple[KeyPath, tuple[str, ...]]] = [((*path, "to"), route.to or ())]
        if route.otherwise is not None:
            lists.append(((*path, "otherwise", "to"), route.otherwise.to))
        for place, names in lists:
            for at, name in enumerate(names):
                if name not in config.platforms and name != UNROUTED:
                    yield _unknown_platform((*place, at), name, config)


def _unknown_platform(path: KeyPath, name: str, config: Config) -> PlacedProblem:
    hint = nearest(name, config.platforms)
    text = f"{dotted(path)}: there is no platform {quoted(name)}"
    return problem_at(path, "E062", text, hint, relies_on=[("platforms", name)])


def _paths(config: Config) -> Iterator[PlacedProblem]:
    """Check that no two platforms take callbacks at one path."""
    owners: dict[str, str] = {}
    for name, platform in config.platforms.items():
        if platform.accept is not None:
            owner = owners.setdefault(platform.accept.path, name)
            if owner != name:
                path = ("platforms", name, "accept", "path")
                what = f"{dotted(path)}: {platform.accept.path} already belongs to {owner}"
                yield problem_at(path, "E063", what, "give each platform a path of its own")

        yield from _authorised(config, name)
        if isinstance(platform.sign, MessageSign):
            for component in platform.sign.unset(platform.headers):
                where: KeyPath = ("platforms", name, "sign", "components")
                what = f"{dotted(where)}: no request carries the header {quoted(component)}"
                yield problem_at(where, "E051", what, "set it under headers, or leave it out")


def certificates(config: Config, directory: Path, *, for_service: bool = False) -> Iterator[PlacedProblem]:
    """Yield each certificate or key of ``connect`` and ``tls`` that cannot be used; relative ones lie in ``directory``.

    ``for_service``: a file this process may not read is the service's, and says nothing about the configuration.
    """
    yield from listener_certificates(config, directory, for_service=for_service)
    owners: list[tuple[KeyPath, PlatformSection]] = [
        *((("platforms", name), platform) for name, platform in config.platforms.items()),
        *((("alerts", "targets", name), target.platform) for name, target in config.alerts.targets.items()),
    ]
    for owner, platform in owners:
        files = (platform.connect.ca, platform.connect.cert, platform.connect.key)
        if for_service and any(not may_read(directory / file) for file in files if file is not None):
            continue
        try:
            platform.connect.tls(directory)
        except BadValue as bad:
            what = f"{dotted(owner)}.{bad.message}"
            yield problem_at((*owner, "connect"), bad.code, what, "see that it is there and readable by the relay")


def warnings(config: Config, data: RawSettings) -> Iterator[PlacedProblem]:
    """Yield warnings; ``data`` is the file as written, references unresolved."""
    yield from _literal_secrets(data, ())
    yield from _invisible(data, ())
    used = {wanted for platform in config.platforms.values() for wanted in platform.quotas}
    for name in config.quotas:
        if name not in used:
            yield problem_at(("quotas", name), "W003", f"no platform uses the quota {quoted(name)}", at_key=True)
    yield from _credentials(config)
    yield from view_warnings(config)
    yield from _open_intake(config)
    for name, platform in config.platforms.items():
        yield from _without_effect(config, name, platform)
        yield from _in_the_clear(name, platform)
        if "max_body" in data.get("ingest", {}) and platform.batch.max_bytes < config.ingest.max_body:
            text = f"platforms.{name}: payloads above batch.max_bytes are refused, though ingest.max_body allows them"
            yield problem_at(("platforms", name, "batch", "max_bytes"), "W005", text)
    for name, target in config.alerts.targets.items():
        lets_in = target.kind in ("dingtalk", "wecom", "feishu") or _sends_secret(target.platform)
        if lets_in and _is_unencrypted(target.platform.url):
            where: KeyPath = ("alerts", "targets", name, "url")
            yield problem_at(
                where, "W004", f"{dotted(where)}: what lets us in travels unencrypted over http", "use https"
            )


def _without_effect(config: Config, name: str, platform: PlatformSection) -> Iterator[PlacedProblem]:
    """Warn of settings of a platform that another one leaves nothing to do."""
    for index, wanted in enumerate(platform.quotas):
        if platform.group is None and wanted in config.quotas and config.quotas[wanted].per == "group":
            place: KeyPath = ("platforms", name, "quotas", index)
            text = f"{dotted(place)}: {quoted(wanted)} is per group, but platforms.{name} has no group"
            yield problem_at(
                place, "W009", text, "set group:, such as shop_id; until then all its requests are one group"
            )
    urls = [platform.url, *([platform.confirm.url] if platform.confirm else [])]
    if not any(url.startswith("https:") for url in urls):
        for key in ("ca", "cert", "key"):
            if getattr(platform.connect, key) is not None:
                place = ("platforms", name, "connect", key)
                yield problem_at(place, "W010", f"{dotted(place)} is not used with http", "use https, or remove it")
    if platform.results is not None:
        for key in platform.results.unused:
            place = ("platforms", name, "results", key)
            text = f"{dotted(place)} is not used with shape: {platform.results.shape}"
            yield problem_at(place, "W010", text, "remove it, or choose the other shape", at_key=True)


def _in_the_clear(name: str, platform: PlatformSection) -> Iterator[PlacedProblem]:
    """Warn of a login in a platform's URL, and of secrets that anyone on the way can read."""
    path: KeyPath = ("platforms", name, "url")
    if "@" in urlsplit(platform.url).netloc:
        hint = "put them into headers as a ${file:...} reference"
        yield problem_at(path, "W001", f"{dotted(path)} has credentials in it", hint)
    elif _sends_secret(platform) and _is_unencrypted(platform.url):
        yield problem_at(path, "W004", f"{dotted(path)}: its secrets travel unencrypted over http", "use https")


def _open_intake(config: Config) -> Iterator[PlacedProblem]:
    """Warn of who may post or act without a token of their own."""
    posting = {config.ingest.token, *(each.token for each in config.ingest.tokens)}
    for index, user in enumerate(config.admin.users):
        if user.token in posting:
            what = (
                f"admin.users[{index}]: who may post callbacks can also act as {quoted(user.name)}: one token for both"
            )
            yield problem_at(("admin", "users", index, "token"), "W012", what, "give ingest and admin a token each")
    if not (config.ingest.token or config.ingest.tokens):
        for index, address in enumerate(config.ingest.listen):
            if not is_local(address):
                text = f"anyone who reaches {address} can post callbacks"
                yield problem_at(("ingest", "listen", index), "W006", text, "set ingest.token")


def _is_unencrypted(url: str) -> bool:
    """Return whether what goes to a URL leaves the machine unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _authorised(config: Config, name: str) -> Iterator[PlacedProblem]:
    """Check that a named credential is there."""
    platform = config.platforms[name]
    path: KeyPath = ("platforms", name, "auth")
    auth: Any = platform.auth
    if isinstance(auth, UseAuth) and auth.use not in config.credentials:
        hint = nearest(auth.use, config.credentials) or "add it under `credentials:`"
        what = f"{dotted((*path, 'use'))}: there is no credential {quoted(auth.use)}"
        yield problem_at((*path, "use"), "E055", what, hint, relies_on=[("credentials", auth.use)])


def _credentials(config: Config) -> Iterator[PlacedProblem]:
    """Warn of credentials that nobody uses, travel in the clear, or would not outlast a restart."""
    users = [*config.platforms.values(), *config.alerts.targets.values()]
    used = {auth.use for user in users if isinstance(auth := getattr(user, "auth", None), UseAuth)}
    for name in config.credentials:
        if name not in used:
            yield problem_at(
                ("credentials", name), "W008", f"no platform uses the credential {quoted(name)}", at_key=True
            )
    found: list[tuple[KeyPath, Any]] = [(("credentials", name), auth) for name, auth in config.credentials.items()]
    found += [(("platforms", name, "auth"), platform.auth) for name, platform in config.platforms.items()]
    for path, auth in found:
        if not isinstance(auth, OAuth2Auth):
            continue
        if _is_unencrypted(auth.token_url):
            where = (*path, "token_url")
            yield problem_at(
                where, "W004", f"{dotted(where)}: secrets and tokens travel unencrypted over http", "use https"
            )
        if auth.grant == "refresh_token" and config.store.token_key is None:
            what = f"{dotted(path)}: a new refresh token, where the endpoint hands one out, is lost at a restart"
            yield problem_at(path, "W007", what, "set store.token_key")


def _rules(owner: KeyPath, platform: PlatformSection) -> Iterator[PlacedProblem]:
    """Find rules that an earlier one leaves nothing for, and outcomes that one callback cannot have."""
    lists: list[tuple[KeyPath, tuple[RuleSection, ...]]] = [((*owner, "classify"), platform.classify)]
    if platform.results is not None:
        lists.append(((*owner, "results", "classify"), platform.results.classify))
        for index, rule in enumerate(platform.results.classify):
            if rule.outcome not in OUTCOMES:
                where = (*owner, "results", "classify", index, "as")
                what = f"{dotted(where)}: {rule.outcome.value} cannot be said of one callback"
                yield problem_at(where, "E030", what, f"choices are {', '.join(sorted(OUTCOMES))}")
    if platform.confirm is not None:
        lists.append(((*owner, "confirm", "classify"), platform.confirm.classify))
    for path, rules in lists:
        for later, first in unreachable(rules):
            what = f"{dotted((*path, later))} can never match: rule {first} holds whenever it does"
            hint = f"put it before rule {first}, or remove it"
            yield problem_at((*path, later), "E056", what, hint, relies_on=[(*path, first)])


def _fields(owner: KeyPath, platform: PlatformSection) -> Iterator[PlacedProblem]:
    """Check that a URL or method with fields of the callback goes with an envelope of one."""
    for name, text in (("url", platform.url), ("method", platform.method)):
        if "{" in text and not platform.envelope.goes_alone:
            what = f"{dotted((*owner, name))} uses fields of the callback, but a request holds several"
            yield problem_at((*owner, name), "E051", what, "write envelope: single", relies_on=[(*owner, "envelope")])


def _sends_secret(platform: PlatformSection) -> bool:
    return platform.auth is not None or any(is_secret_key((name,)) for name in platform.headers)


def _invisible(value: Any, path: KeyPath) -> Iterator[PlacedProblem]:
    """Yield each secret, login, id and URL of the file with something in it that nobody sees."""
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _invisible(child, (*path, key))
    elif isinstance(value, str) and (path[-1] in _IDS or "://" in value or any(hidden_texts(path, value))):
        found = invisible_in(re.sub(r"\$\{[^{}]*\}", "x", value))
        if found:
            yield problem_at(path, "W011", f"{dotted(path)} {found}", "remove it, unless it belongs to the value")


def _literal_secrets(value: Any, path: KeyPath) -> Iterator[PlacedProblem]:
    """Yield each secret typed into the file itself."""
    if path[2:] in (("envelope", "item"), ("confirm", "body")):
        return  # paths into payloads, whatever their names
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _literal_secrets(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _literal_secrets(child, (*path, index))
    elif isinstance(value, str) and _is_typed_in(path, value):
        text = f"{dotted(path)} holds a secret in the file itself"
        yield problem_at(path, "W002", text, "keep it in a file of its own and write ${file:NAME}")


def _is_typed_in(path: KeyPath, value: str) -> bool:
    """Return whether a value is, or has in it as the login of a database, a secret that is no reference."""
    if path[-1] == "sql":
        secret = re.match(r"[^/]*://[^:/@]*:([^/]*)@", value)
        return secret is not None and "${" not in secret[1]
    return is_secret_key(path) and "${" not in value
