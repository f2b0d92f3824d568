"""What no single value of ``ingest`` and ``admin`` shows: who could come in, from where, and with which certificate."""

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from relay.config.problems import BadValue, nearest, quoted
from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted, problem_at
from relay.config.schema.file import Config

_LOOPBACK = ("localhost", "::1")


def listener_contradictions(config: Config) -> Iterator[PlacedProblem]:
    """Yield addresses that stand twice or are open to others, and tokens that cannot be told apart."""
    seen: dict[str, tuple[str, int]] = {}
    for side, section in (("ingest", config.ingest), ("admin", config.admin)):
        if not section.listen:
            yield problem_at(
                (side, "listen"), "E025", f"{side}.listen is an empty list", "name an address or leave it out"
            )
        for index, address in enumerate(section.listen):
            path = (side, "listen", index)
            first = seen.setdefault(address, (side, index))
            if first != (side, index) and not address.endswith(":0"):
                what = f"{side}.listen: the address {address} is already used by {first[0]}.listen"
                yield problem_at(path, "E052", what, "give each listener its own port")
            yield from _open_to_others(config, side, index, address)
    yield from _tokens(config)
    yield from _acceptors(config)


def listener_certificates(config: Config, directory: Path, *, for_service: bool) -> Iterator[PlacedProblem]:
    """Yield each file of ``tls`` that cannot be used; relative ones lie in ``directory``.

    ``for_service``: a file this process may not read is the service's, and says nothing about the configuration.
    """
    for side, section in (("ingest", config.ingest), ("admin", config.admin)):
        tls = section.tls
        if tls is None:
            continue
        files = [directory / file for file in (tls.cert, tls.key, tls.client_ca) if file is not None]
        if for_service and not all(may_read(file) for file in files):
            continue
        try:
            tls.context(directory)
        except BadValue as bad:
            what = f"{side}.{bad.message}"
            yield problem_at((side, "tls"), bad.code, what, "see that it is there and readable by the relay")


def may_read(file: Path) -> bool:
    """Return whether this process may read a file, if it is there."""
    try:
        return not file.exists() or os.access(file, os.R_OK)
    except PermissionError:
        return False


def is_local(address: str) -> bool:
    """Return whether a listening address can be reached from this machine alone."""
    return address.startswith("unix:") or is_loopback(address.rpartition(":")[0].strip("[]"))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    if host.lower() in _LOOPBACK:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _open_to_others(config: Config, side: str, index: int, address: str) -> Iterator[PlacedProblem]:
    """Find a listener that other machines reach although it is not protected, and nobody said that this is meant."""
    section = config.admin if side == "admin" else config.ingest
    if is_local(address) or section.insecure:
        return
    asks = bool(config.admin.users) if side == "admin" else bool(config.ingest.token or config.ingest.tokens)
    lacks = [] if section.tls is not None else [f"{side}.tls"]
    if asks:
        harm = "what is sent can be read on the way"
    elif side == "admin":
        harm = "without users anyone could pause and drop"
        lacks.append("admin.users")
    else:
        harm = "without a token anyone could post"
        lacks.append("ingest.token")
    if lacks:
        what = f"{side}.listen: {address} is not loopback, and {harm}"
        hint = f"set {' and '.join(lacks)}, listen on 127.0.0.1, or say {side}.insecure: true where that is meant"
        relies_on = ((side, "tls"), (side, "insecure"), (side, "users"), (side, "token"), (side, "tokens"))
        yield problem_at((side, "listen", index), "E054", what, hint, relies_on=relies_on)


def _acceptors(config: Config) -> Iterator[PlacedProblem]:
    """Find what processes that take posts in cannot do."""
    if not config.ingest.processes:
        return
    path = ("ingest", "processes")
    if config.ingest.tls is not None:
        what = "ingest.processes does not go with ingest.tls: a connection over TLS cannot move to another process"
        yield problem_at(
            path,
            "E051",
            what,
            "let a proxy before the relay end TLS, or leave one of them out",
            relies_on=[("ingest", "tls")],
        )
    if config.telemetry.otlp is not None:
        what = "ingest.processes does not go with telemetry.otlp: only the daemon itself makes the spans of posts"
        yield problem_at(
            path,
            "E051",
            what,
            "leave one of them out: spans, or posts on more cores",
            relies_on=[("telemetry", "otlp")],
        )


def _tokens(config: Config) -> Iterator[PlacedProblem]:
    """Check that the tokens of ``ingest.tokens`` can be told apart, and that the platforms they are for exist."""
    names: dict[str, int] = {}
    values = {} if config.ingest.token is None else {config.ingest.token: "ingest.token"}
    for index, each in enumerate(config.ingest.tokens):
        path: KeyPath = ("ingest", "tokens", index)
        if names.setdefault(each.name, index) != index:
            yield problem_at((*path, "name"), "E052", f"the token {quoted(each.name)} is listed twice")
        if (first := values.setdefault(each.token, dotted(path))) != dotted(path):
            what = f"{dotted(path)}: it is the same token as {first}, and cannot be told from it"
            yield problem_at((*path, "token"), "E052", what, "give each a token of its own")
        for place, name in enumerate(each.platforms or ()):
            if name not in config.platforms:
                where = (*path, "platforms", place)
                hint = nearest(name, config.platforms) or "add it under `platforms:`"
                what = f"{dotted(where)}: there is no platform {quoted(name)}"
                yield problem_at(where, "E062", what, hint, relies_on=[("platforms", name)])
