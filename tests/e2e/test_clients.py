"""The clients of docs/clients.md against a real daemon, behind a front that loses an answer and asks to wait."""

import asyncio
import json
import os
import shutil
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from relay.client import AsyncRelayClient, RelayClient
from relay.core.clock import boottime_s
from tests.e2e.harness import PLATFORM, Bench, bench
from tests.installed import installed

CLIENTS = Path(__file__).parents[2] / "docs" / "clients"
BODY = '{"order_id": "991", "status": "shipped", "note": "已发货"}'
WAIT_S = 3
"""What the front's 503 asks for: more than any client waits by itself by then."""

COMMANDS = {
    "post.sh": ("curl", "curl", []),
    "post.py": ("python3", "python3", []),
    "Post.java": ("java", "default-jdk-headless", []),
    "post.php": ("php", "php-cli", []),
    "post.go": ("go", "golang-go", ["run"]),
    "post.mjs": ("node", "nodejs", []),
}
"""Per client its program, the Debian package that has it, and the words before the file."""
LARGE = ("Post.java", "post.go", "post.mjs")
"""Their packages are too large to be asked for: there is a test where the program is, and none elsewhere."""
TESTED = [name for name, (program, _, _) in COMMANDS.items() if name not in LARGE or shutil.which(program)]


@dataclass
class Seen:
    """One request at the front, and what the daemon answered if it was asked."""

    key: str
    at_s: float
    status: int | None = None
    id: str | None = None
    replayed: bool = False


@dataclass
class Front:
    """Stands before the daemon: takes a step of ``steps`` for each request, and passes on when there is none left.

    ``cut`` passes the post on and closes the connection without the answer; ``busy`` answers 503 by itself.
    """

    run: Bench
    steps: list[str]
    seen: list[Seen] = field(default_factory=list)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one request and close."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in head.splitlines())}
            body = await reader.readexactly(int(headers["content-length"]))
            seen = Seen(headers["idempotency-key"], boottime_s())
            self.seen.append(seen)
            step = self.steps.pop(0) if self.steps else "pass"
            if step == "busy":
                writer.write(_answer(503, "{}", f"Retry-After: {WAIT_S}\r\n"))
            elif answer := await self._pass_on(seen, body, headers["content-type"], step):
                writer.write(answer)
            await writer.drain()
        finally:
            writer.close()

    async def _pass_on(self, seen: Seen, body: bytes, kind: str, step: str) -> bytes | None:
        url = f"{self.run.ingest}/v1/platforms/{PLATFORM}/callbacks"
        headers = {"Idempotency-Key": seen.key, "Content-Type": kind}
        async with self.run.http.post(url, data=body, headers=headers) as response:
            text = await response.text()
            seen.status, seen.id = response.status, json.loads(text).get("id")
            seen.replayed = response.headers.get("Idempotent-Replayed") == "true"
        return None if step == "cut" else _answer(response.status, text)


def _answer(status: int, text: str, more: str = "") -> bytes:
    body = text.encode()
    return f"HTTP/1.1 {status} Some\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@asynccontextmanager
async def _front(run: Bench, steps: Sequence[str]) -> AsyncIterator[tuple[Front, str]]:
    front = Front(run, list(steps))
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0)
    async with server:
        yield front, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def _client(name: str, url: str, body: str) -> tuple[int | None, str, str]:
    """Run a client as its page says; return exit code, output and errors."""
    program, _, words = COMMANDS[name]
    start = ["sh"] if name == "post.sh" else [program, *words]
    # a proxy nobody listens on: the relay is on this host
    env = os.environ | {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    process = await asyncio.create_subprocess_exec(
        *start, str(CLIENTS / name), url, "order-991-shipped", body, stdout=PIPE, stderr=PIPE, env=env
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", TESTED)
async def test_a_client_keeps_the_repeat_rule(tmp_path: Path, name: str) -> None:
    """The first answer is lost, then comes a 503 with Retry-After: the same key again, not too soon, and the first id.

    Another body under the key is a 422: final, and told with an exit code.
    """
    program, package, _ = COMMANDS[name]
    installed(program, package=package)

    async with bench(tmp_path, platform={}) as run:
        async with _front(run, ["cut", "busy"]) as (front, url):
            code, out, err = await _client(name, url, BODY)
        lost, busy, last = front.seen

        assert (code, json.loads(out)["id"]) == (0, lost.id), err
        assert {seen.key for seen in front.seen} == {"order-991-shipped"}
        assert (lost.status, lost.replayed, last.status, last.id, last.replayed) == (202, False, 202, lost.id, True)
        assert busy.at_s - lost.at_s >= 0.2, "waits before it repeats"
        assert last.at_s - busy.at_s >= WAIT_S, "waits as long as Retry-After says"

        async with _front(run, []) as (front, url):
            code, _, _ = await _client(name, url, '{"order_id": "992"}')

        assert [seen.status for seen in front.seen] == [422], "a 4xx is final"
        assert code != 0
        await run.drained(timeout_s=30)
        assert (await run.ledger())["total"]["delivered"] == 1


@pytest.mark.parametrize("client", [RelayClient, AsyncRelayClient])
async def test_the_client_of_the_package_keeps_the_repeat_rule(
    tmp_path: Path, client: type[RelayClient] | type[AsyncRelayClient]
) -> None:
    """A post for which no key was given is repeated under one all the same: it is queued once."""
    async with bench(tmp_path, platform={}) as run:
        async with _front(run, ["cut"]) as (front, url):
            made = client(url)
            if isinstance(made, AsyncRelayClient):
                told = [await made.post(PLATFORM, {"n": 1}), await made.post(PLATFORM, {"n": 2})]
            else:
                told = [await asyncio.to_thread(made.post, PLATFORM, {"n": number}) for number in (1, 2)]
        lost, again, other = front.seen
        assert (lost.key, lost.id) == (again.key, again.id)
        assert (lost.replayed, again.replayed, other.replayed) == (False, True, False)
        assert lost.key != other.key
        assert told == [lost.id, other.id]
