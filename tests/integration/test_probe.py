"""``relay config check --probe``: what it finds of platforms and token endpoints, and that it sends them nothing."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import yaml
from relay.cli.commands.trying.reach import Probed, probed
from relay.config.load import load
from relay.standin.ports import free_port
from tests.integration.test_connect import certificate, server_context
from tests.integration.token_side import TokenPlatform


@asynccontextmanager
async def listening(seen: list[bytes], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Something that notes all it is sent; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            seen.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=tls, family=2)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def _found(directory: Path, platforms: dict[str, object], **more: object) -> dict[tuple[str, str], Probed]:
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "platforms": platforms, **more}))
    return {(each.kind, each.name): each for each in await probed(load(file))}


async def test_platforms_are_connected_to_and_sent_nothing(tmp_path: Path) -> None:
    """One that listens, one that does not, one with TLS that we trust, one that we do not, one behind a proxy."""
    issuer = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", issuer=issuer)
    seen: list[bytes] = []
    async with listening(seen) as plain, listening(seen, server_context(tmp_path)) as secure:
        secret = f"https://localhost:{secure}/x"
        found = await _found(
            tmp_path,
            {
                "up": {"url": f"http://127.0.0.1:{plain}/"},
                "down": {"url": f"http://127.0.0.1:{free_port()}/"},
                "tls": {"url": secret, "connect": {"ca": "ca.pem"}},
                "unknown": {"url": secret},
                "proxied": {"url": "https://nowhere.invalid/", "connect": {"proxy": f"http://127.0.0.1:{plain}"}},
            },
        )
    told = {name: (each.found, each.problem) for (_, name), each in found.items()}
    assert told["up"][0][0] == "127.0.0.1"
    assert told["up"][0][1].startswith("connected in ")
    assert [name for name, (_, problem) in told.items() if not problem] == ["proxied", "tls", "up"]
    assert told["down"][1] == "connection refused"
    assert told["tls"][0][2].startswith("TLSv1.3, certificate until ")
    assert told["unknown"][1].startswith("TLS: self-signed certificate") or "unable to get" in told["unknown"][1]
    assert told["proxied"][0][0] == "through its proxy"
    assert found["platform", "down"].line().startswith("FAIL platform down at 127.0.0.1:")
    assert set(seen) <= {b""}


async def test_a_token_is_fetched_once_for_all_who_share_it(tmp_path: Path) -> None:
    """A refused one is told without our secret; a refresh token is left to the daemon."""
    tokens = TokenPlatform()
    await tokens.start()
    app = {"kind": "oauth2", "token_url": f"{tokens.base}/token", "client_id": "app", "client_secret": "5ecret-5ecret"}
    refresh = {**app, "grant": "refresh_token", "refresh_token": "r0"}
    wrong = {**app, "token_url": f"{tokens.base}/nowhere"}
    shops = {name: {"url": f"{tokens.base}/callbacks/{name}", "auth": {"use": "app"}} for name in ("a", "b")}
    own = {"url": f"{tokens.base}/callbacks/c"}
    found = await _found(
        tmp_path,
        {**shops, "c": {**own, "auth": refresh}, "d": {**own, "auth": wrong}},
        credentials={"app": app},
    )
    await tokens.stop()
    assert found["token", "app"].found[-1] == "a token for 2h"
    assert found["token", "c"].found[-1] == "no token fetched: its refresh token is the daemon's"
    assert found["token", "d"].problem.startswith("no token: ")
    assert "5ecret" not in str(found)
    assert tokens.issued == len(tokens.asked) == 1
    assert tokens.arrivals == []
