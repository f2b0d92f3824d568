"""TLS on a listener: which clients get in, and that a reload shows another certificate to new connections."""

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.web import BaseRequest
from relay.cli.support.client import Client, Unreachable
from relay.config.schema.protection.tls import ListenerTls
from relay.web import admit
from relay.web.listen import Listener, Tls, open_listener
from relay.web.response import Response
from tests.integration.test_connect import Made, certificate


@asynccontextmanager
async def listening(tls: Tls) -> AsyncIterator[tuple[Listener, list[str]]]:
    """A listener that answers everything, and the codes of what it refused."""
    refused: list[str] = []

    async def serve(request: BaseRequest) -> Response:
        return Response(200, b'{"path": "%b"}' % request.path.encode())

    def failed(what: str, error: BaseException) -> None:
        raise AssertionError(what) from error

    listener = await open_listener("127.0.0.1:0", serve=serve, refused=refused.append, failed=failed, tls=tls)
    try:
        yield listener, refused
    finally:
        await listener.close(1.0)


def made(directory: Path, name: str, *, issuer: Made | None = None, client_ca: str | None = None) -> ssl.SSLContext:
    """Return a listener's context with a certificate of that name, which is made."""
    certificate(directory, name, issuer=issuer)
    return ListenerTls(cert=f"{name}.pem", key=f"{name}.key", client_ca=client_ca).context(directory)


async def _ask(listener: Listener, shown: Path, mine: Path | None = None, *, tls: bool = True) -> str:
    """Return the answer to a request, or the kind of failure."""
    port = int(listener.addresses[0].rpartition(":")[2])

    def ask() -> str:
        context = ssl.create_default_context(cafile=str(shown))
        if mine is not None:
            context.load_cert_chain(mine.with_suffix(".pem"), mine.with_suffix(".key"))
        connection: http.client.HTTPConnection = http.client.HTTPConnection("localhost", port, timeout=40)
        if tls:
            connection = http.client.HTTPSConnection("localhost", port, timeout=40, context=context)
        try:
            connection.request("GET", "/x")
            return connection.getresponse().read().decode()
        except ssl.SSLCertVerificationError:
            return "another certificate"
        except (OSError, http.client.HTTPException):
            return "refused"
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_a_listener_speaks_tls_and_nothing_else(tmp_path: Path) -> None:
    """Whoever trusts its certificate gets an answer; plain HTTP gets none, and the listener goes on."""
    context = made(tmp_path, "relay")
    async with listening(lambda: context) as (listener, refused):
        assert await _ask(listener, tmp_path / "relay.pem") == '{"path": "/x"}'
        assert await _ask(listener, tmp_path / "relay.pem", tls=False) == "refused"
        assert await _ask(listener, tmp_path / "relay.pem") == '{"path": "/x"}'
        assert refused == []


async def test_only_certificates_of_the_authority_get_in(tmp_path: Path) -> None:
    """With ``client_ca`` a client shows one; another authority's, or none, ends in the handshake."""
    mine, other = certificate(tmp_path, "ca"), certificate(tmp_path, "other-ca")
    certificate(tmp_path, "erp", issuer=mine)
    certificate(tmp_path, "stranger", issuer=other)
    context = made(tmp_path, "relay", client_ca="ca.pem")
    async with listening(lambda: context) as (listener, _):
        assert await _ask(listener, tmp_path / "relay.pem", tmp_path / "erp") == '{"path": "/x"}'
        assert await _ask(listener, tmp_path / "relay.pem", tmp_path / "stranger") == "refused"
        assert await _ask(listener, tmp_path / "relay.pem") == "refused"


async def test_a_reload_shows_another_certificate(tmp_path: Path) -> None:
    """To connections made from then on."""
    (tmp_path / "new").mkdir()
    contexts = [made(tmp_path, "relay")]
    async with listening(lambda: contexts[-1]) as (listener, _):
        assert await _ask(listener, tmp_path / "relay.pem") == '{"path": "/x"}'
        contexts.append(made(tmp_path / "new", "relay"))
        assert await _ask(listener, tmp_path / "relay.pem") == "another certificate"
        assert await _ask(listener, tmp_path / "new" / "relay.pem") == '{"path": "/x"}'


async def test_commands_trust_the_certificate_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That very one, by whatever name it is reached; with ``RELAY_CLIENT_CERT`` they show their own."""
    authority = certificate(tmp_path, "ca")
    certificate(tmp_path, "ops", issuer=authority)
    context = made(tmp_path, "relay", client_ca="ca.pem")
    (tmp_path / "both.pem").write_bytes((tmp_path / "ops.pem").read_bytes() + (tmp_path / "ops.key").read_bytes())
    async with listening(lambda: context) as (listener, _):
        address = listener.addresses[0]

        def ask(shown: str) -> str:
            return str(Client(address, shown=str(tmp_path / shown)).get("/v1/x")["path"])

        with pytest.raises(Unreachable):
            await asyncio.to_thread(ask, "relay.pem")
        monkeypatch.setenv("RELAY_CLIENT_CERT", str(tmp_path / "both.pem"))
        assert await asyncio.to_thread(ask, "relay.pem") == "/v1/x"
        with pytest.raises(Unreachable):
            await asyncio.to_thread(ask, "ca.pem")


async def test_who_does_not_finish_the_handshake_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing holds no place among the connections for long."""
    monkeypatch.setattr(admit, "_HANDSHAKE_S", 0.2)
    context = made(tmp_path, "relay")
    async with listening(lambda: context) as (listener, _):
        host, _, port = listener.addresses[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
