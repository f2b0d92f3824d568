"""``relay config check --probe``: can each platform be reached from here? Sends no callback and no request to one.

Of each platform: its name is looked up, a connection opened (to the proxy, where there is one), TLS spoken, and the
connection closed. Of each credential with a token endpoint a token is fetched. One that goes by a refresh token is only
connected to: many endpoints hand out a new refresh token with each answer, and the daemon would be left with the old.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from relay.cli.support import human
from relay.cli.words.sentences import say
from relay.config.schema.auth import OAuth2Auth
from relay.config.schema.file import Config
from relay.core.clock import elapsed_s, wall_s
from relay.delivery.auth import token_terms
from relay.delivery.sender import HttpSender, Outbound, Request
from relay.delivery.terms import Terms, compile_all
from relay.privacy.redaction import Redactor
from relay.wire.destinations import Destinations
from relay.wire.oauth import Granted

_PATIENCE_S = 10.0


class Probed(NamedTuple):
    """What was found of one platform or token endpoint. ``problem`` is empty where all went well."""

    kind: str  # platform or token
    name: str  # of the platform or the credential
    address: str  # host:port that was connected to
    found: list[str]  # what worked, step by step
    problem: str

    def line(self) -> str:
        """Return it as a line for people."""
        told = say(", ").join([*self.found, *([self.problem] if self.problem else [])])
        words = "{ok} platform {name} at {address}: {told}"
        if self.kind == "token":
            words = "{ok} token endpoint of {name} at {address}: {told}"
        return say(words, ok="FAIL" if self.problem else "ok  ", name=self.name, address=self.address, told=told)


async def probed(config: Config) -> list[Probed]:
    """Look at every platform and token endpoint of a configuration, all at once."""
    asked: list[Awaitable[Probed]] = []
    seen: set[str] = set()
    for terms in compile_all(config):
        asked.append(_platform(terms))
        if isinstance(terms.auth, OAuth2Auth) and terms.credential not in seen:
            seen.add(terms.credential)
            asked.append(_token(terms.credential, terms.auth, destinations=terms.destinations, unread=config.unread))
    return list(await asyncio.gather(*asked))


async def _platform(terms: Terms) -> Probed:
    outbound = terms.outbound
    through = outbound.proxy is not None
    url = terms.url if outbound.proxy is None else outbound.proxy
    found = [say("through its proxy")] if through else []
    problem = await _connected(url, found, outbound)
    return Probed("platform", terms.platform, _address(url), found, problem)


async def _token(name: str, auth: OAuth2Auth, *, destinations: Destinations, unread: tuple[str, ...]) -> Probed:
    found: list[str] = []
    outbound = Outbound(denied=destinations.why_denied)
    problem = await _connected(auth.token_url, found, outbound)
    if not problem:
        if auth.grant == "refresh_token":
            found.append(say("no token fetched: its refresh token is the daemon's"))
        elif unread:
            found.append(say("no token fetched: a secret is only for the service to read"))
        else:
            problem = await _fetched(auth, found, outbound)
    shown = name.removeprefix("platform:")
    return Probed("token", shown, _address(auth.token_url), found, problem)


async def _fetched(auth: OAuth2Auth, found: list[str], outbound: Outbound) -> str:
    terms = token_terms(auth)
    draft = terms.question.ask(terms.refresh_token)
    sender = HttpSender(concurrency=1, user_agent="callback-relay", outbound=outbound)
    try:
        answer = await sender.send(Request(draft.url, draft.method, draft.headers, draft.body, terms.timeout_s))
    finally:
        await sender.close()
    outcome = terms.reading.read(answer)
    if isinstance(outcome, Granted):
        found.append(say("a token for {span}", span=human.duration(outcome.lives_s)))
        return ""
    return say("no token: {why}", why=Redactor(terms.secrets).text(outcome.reason))


async def _connected(url: str, found: list[str], outbound: Outbound) -> str:
    """Connect to where ``url`` points and close again; add what worked to ``found``, return what did not."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    context = (outbound.tls or ssl.create_default_context()) if parts.scheme == "https" else None
    began_s = elapsed_s()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(info[4][0] for info in infos))
            found.append(" ".join(str(address) for address in addresses[:3]))
            why = [outbound.denied(str(address)) for address in addresses] if outbound.denied is not None else []
            if why and None not in why:
                return ", ".join(map(str, why[:3]))
            _, writer = await asyncio.open_connection(
                host,
                port,
                ssl=context,
                server_hostname=host if context is not None else None,
                local_addr=None if outbound.source is None else (outbound.source, 0),
            )
            found.append(say("connected in {span}", span=human.duration(elapsed_s() - began_s)))
            secured: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
            writer.close()
            with suppress(OSError):  # it was reached; how the other side takes the goodbye does not matter
                await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        return _why(error)
    if secured is not None:
        ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {})["notAfter"]))
        day = datetime.fromtimestamp(ends, UTC).date().isoformat()
        words = "{version}, certificate until {day} ({away})"
        found.append(say(words, version=secured.version(), day=day, away=human.distance(ends, now=wall_s())))
    return ""


_WHY: list[tuple[type[BaseException], Callable[[BaseException], str]]] = [
    (socket.gaierror, lambda _: say("its name is not resolved")),
    (ssl.SSLCertVerificationError, lambda error: f"TLS: {getattr(error, 'verify_message', '')}"),
    (ssl.SSLError, lambda error: f"TLS: {getattr(error, 'reason', None) or error}"),
    (TimeoutError, lambda _: say("no answer within {span}", span=f"{_PATIENCE_S:g}s")),
    (ConnectionRefusedError, lambda _: "connection refused"),
]


def _why(error: BaseException) -> str:
    return next((told(error) for kind, told in _WHY if isinstance(error, kind)), str(error))


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
