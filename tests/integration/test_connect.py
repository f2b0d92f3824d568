"""``connect:`` of a platform against real sockets: private CA, client certificate, source address, proxy."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from relay.config.load import loads
from relay.config.problems import ConfigInvalid
from relay.core.clock import wall_s
from relay.delivery.sender import HttpSender, Outbound, Request
from relay.delivery.terms import compile_all
from relay.wire.answers.answer import Answer, Failure

Seen = list[tuple[str, bytes]]
Made = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(directory: Path, name: str, *, issuer: Made | None = None) -> Made:
    """Make a certificate for ``name``, signed by ``issuer`` or by itself, as NAME.pem with NAME.key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, parent = (issuer[1], issuer[0].subject) if issuer else (key, subject)
    now = datetime.datetime.fromtimestamp(wall_s(), datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, issuer is None, issuer is None, False, False), critical=True
        )
        .sign(signer, hashes.SHA256())
    )
    (directory / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


@asynccontextmanager
async def platform(seen: Seen, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A platform that notes where a request came from and its head; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append((writer.get_extra_info("peername")[0], head))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=tls, family=2)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A private CA, a server and a client certificate."""
    ca = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", issuer=ca)
    certificate(tmp_path, "client", issuer=ca)
    return tmp_path


async def send(directory: Path, url: str, connect: str, seen: Seen) -> Answer | Failure:
    """Post through a sender made from a configuration with this ``connect``."""
    text = f"version: 1\nplatforms:\n  p:\n    url: {url}\n    connect: {connect}\n"
    (terms,) = compile_all(loads(text, path=directory / "config.yaml"))
    sender = HttpSender(concurrency=1, user_agent="t", outbound=terms.outbound)
    try:
        return await sender.send(Request(url, "POST", {"Content-Type": "application/json"}, b"{}", 30.0))
    finally:
        await sender.close()


def server_context(pki: Path, *, ask: bool = False) -> ssl.SSLContext:
    """The platform's side of TLS; ``ask`` demands a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pki / "ca.pem")
    return context


async def test_private_ca_is_trusted_where_it_is_named(pki: Path) -> None:
    """With ``ca`` the platform is reached; without, it is a TLS failure before anything was sent."""
    seen: Seen = []
    async with platform(seen, server_context(pki)) as port:
        url = f"https://localhost:{port}/"
        trusted = await send(pki, url, "{ca: ca.pem}", seen)
        strange = await send(pki, url, "{}", seen)

    assert isinstance(trusted, Answer)
    assert trusted.status == 204
    assert isinstance(strange, Failure)
    assert (strange.kind, strange.connected) == ("tls", False)
    assert len(seen) == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_each_connection_tells_when_the_certificate_ends(pki: Path, loop: str) -> None:
    """As the platform shows it: in a day. Without TLS there is nothing to tell."""
    ends: list[float] = []

    async def both() -> None:
        for tls, scheme in ((server_context(pki), "https"), (None, "http")):
            async with platform([], tls) as port:
                outbound = Outbound(tls=ssl.create_default_context(cafile=str(pki / "ca.pem")))
                sender = HttpSender(concurrency=1, user_agent="t", outbound=outbound, certificate=ends.append)
                answer = await sender.send(Request(f"{scheme}://localhost:{port}/", "POST", {}, b"{}", 30.0))
                await sender.close()
                assert isinstance(answer, Answer)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(both())
    (end,) = ends
    assert end == pytest.approx(wall_s() + 86400.0, abs=60)


@pytest.mark.parametrize("turns", [0, 20], ids=["unread", "read"])
async def test_bytes_on_an_idle_tls_connection_are_no_answer(pki: Path, turns: int) -> None:
    """Under TLS what waits is only known when it is read, which is done before a kept connection is used."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n{}")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % len(writers))
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0, ssl=server_context(pki), family=2)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
    tls = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    sender = HttpSender(concurrency=1, user_agent="t", outbound=Outbound(tls=tls))
    request = Request(url, "POST", {"Content-Type": "application/json"}, b"{}", 30.0)
    answers = [await sender.send(request), await sender.send(request)]
    writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
    for _ in range(turns):
        await asyncio.sleep(0)
    answers.append(await sender.send(request))
    await sender.close()
    server.close()
    await server.wait_closed()
    assert [answer.body for answer in answers if isinstance(answer, Answer)] == [b"1", b"1", b"2"]


async def test_client_certificate_is_shown(pki: Path) -> None:
    """A platform that demands our certificate gets it, key in a file of its own."""
    seen: Seen = []
    async with platform(seen, server_context(pki, ask=True)) as port:
        url = f"https://localhost:{port}/"
        known = await send(pki, url, "{ca: ca.pem, cert: client.pem, key: client.key}", seen)
        unknown = await send(pki, url, "{ca: ca.pem}", seen)

    assert isinstance(known, Answer)
    assert isinstance(unknown, Failure)
    assert len(seen) == 1


async def test_source_address(tmp_path: Path) -> None:
    """Requests leave from the address that the platform knows us by."""
    seen: Seen = []
    async with platform(seen) as port:
        assert isinstance(await send(tmp_path, f"http://127.0.0.1:{port}/", "{source: 127.0.0.2}", seen), Answer)

    assert seen[0][0] == "127.0.0.2"


async def test_proxy(tmp_path: Path) -> None:
    """A proxy gets the whole URL and our login; the name is resolved there, not here."""
    seen: Seen = []
    async with platform(seen) as port:
        through = f'{{proxy: "http://127.0.0.1:{port}", proxy_auth: "us:secret"}}'
        answer = await send(tmp_path, "http://shop.invalid/in", through, seen)

    assert isinstance(answer, Answer)
    assert seen[0][1].startswith(b"POST http://shop.invalid/in HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXM6c2VjcmV0\r\n" in seen[0][1]


@asynccontextmanager
async def tunnel(status: str, heads: list[bytes]) -> AsyncIterator[int]:
    """A proxy that answers CONNECT, and anything else, with ``status``, and tunnels where that is 200; its port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        writer.close()

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        if not status.startswith("200"):
            login = 'Proxy-Authenticate: Basic realm="p"\r\n' if status.startswith("407") else ""
            writer.write(f"HTTP/1.1 {status}\r\n{login}Content-Length: 0\r\n\r\n".encode())
            with suppress(OSError):
                await reader.read()
            writer.close()
            return
        there = await asyncio.open_connection("localhost", int(head.split()[1].rpartition(b":")[2]), family=2)
        writer.write(f"HTTP/1.1 {status}\r\nProxy-Agent: x\r\n\r\n".encode())
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*serving), 20)


async def test_tunnel_through_a_proxy(pki: Path) -> None:
    """An https platform is reached through CONNECT, which carries the login; the platform does not see it."""
    seen: Seen = []
    heads: list[bytes] = []
    async with platform(seen, server_context(pki)) as port, tunnel("200 Connection established", heads) as proxy:
        connect = f'{{ca: ca.pem, proxy: "http://127.0.0.1:{proxy}", proxy_auth: "us:secret"}}'
        answer = await send(pki, f"https://localhost:{port}/", connect, seen)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.proxy) == (204, "")
    assert heads[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
    assert b"Proxy-Authorization: Basic dXM6c2VjcmV0\r\n" in heads[0]
    assert b"Proxy-Authorization" not in seen[0][1]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_wants_another_login_is_named(tmp_path: Path, scheme: str) -> None:
    """Its 407 is an answer of its own, to a request or to CONNECT alike."""
    heads: list[bytes] = []
    async with tunnel("407 Proxy Authentication Required", heads) as proxy:
        connect = f'{{proxy: "http://127.0.0.1:{proxy}", proxy_auth: "us:old"}}'
        answer = await send(tmp_path, f"{scheme}://shop.invalid/in", connect, [])

    assert isinstance(answer, Answer)
    assert (answer.status, answer.proxy) == (407, f"127.0.0.1:{proxy}")
    assert answer.headers["proxy-authenticate"] == 'Basic realm="p"'
    assert len(heads) == 1


@pytest.mark.parametrize("status", ["403 Forbidden", "502 Bad Gateway", "503 Service Unavailable"])
async def test_proxy_that_opens_no_tunnel(tmp_path: Path, status: str) -> None:
    """Nothing reached the platform; what the proxy said is told, whose it is too."""
    async with tunnel(status, []) as proxy:
        connect = f'{{proxy: "http://127.0.0.1:{proxy}", proxy_auth: "us:secret"}}'
        failure = await send(tmp_path, "https://shop.invalid/in", connect, [])

    detail = f"the proxy 127.0.0.1:{proxy} answered {status[:3]} to CONNECT"
    assert failure == Failure("unreachable", connected=False, detail=detail)


async def test_no_name_cache(tmp_path: Path) -> None:
    """With ``dns_cache: 0s`` requests work as well."""
    seen: Seen = []
    async with platform(seen) as port:
        assert isinstance(await send(tmp_path, f"http://localhost:{port}/", "{dns_cache: 0s}", seen), Answer)


def _nothing(_pki: Path) -> None:
    """Nothing to spoil."""


def _garbage(pki: Path) -> None:
    (pki / "ca.pem").write_text("no certificate")


def _foreign_key(pki: Path) -> None:
    (pki / "client.key").write_bytes((pki / "server.key").read_bytes())


@pytest.mark.parametrize(
    ("connect", "spoil", "said"),
    [
        ("{ca: nowhere.pem}", _nothing, "nowhere.pem"),
        ("{ca: ca.pem}", _garbage, "ca.pem"),
        ("{cert: client.pem, key: client.key}", _foreign_key, "client.pem"),
        ("{key: client.key}", _nothing, "certificate"),
        ("{source: here}", _nothing, "here"),
        ("{proxy_auth: 'us:secret'}", _nothing, "proxy"),
        ("{proxy: 'ftp://x'}", _nothing, "http"),
    ],
)
def test_unusable_settings_are_found_by_the_check(
    pki: Path, connect: str, spoil: Callable[[Path], None], said: str
) -> None:
    """Each is an error that names the file or value, and never quotes a secret."""
    spoil(pki)
    text = f"version: 1\nplatforms:\n  p:\n    url: https://x.example/\n    connect: {connect}\n"

    with pytest.raises(ConfigInvalid) as caught:
        loads(text, path=pki / "config.yaml")

    told = "\n".join(map(str, caught.value.problems))
    assert said in told
    assert "secret" not in told


def test_certificates_of_no_use_are_pointed_out(pki: Path) -> None:
    """What TLS would use does nothing for a platform that is spoken to without it; a read-back may need it."""
    keys = "connect: {ca: ca.pem, cert: client.pem, key: client.key}"
    confirm = "confirm: {url: 'https://a/', classify: [{status: 200, as: ok}]}"
    both = f"{{p: {{url: 'http://127.0.0.1/', {keys}}}, q: {{url: 'http://a/', {keys}, {confirm}}}}}"
    found = loads(f"version: 1\nplatforms: {both}\n", path=pki / "config.yaml").warnings
    assert [one.message.split(" ")[0] for one in found if one.code == "W010"] == [
        f"platforms.p.connect.{key}" for key in ("ca", "cert", "key")
    ]
