"""A sealed relay as an operator meets it: what is planted in callbacks and answers is found nowhere on the disk."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest
import yaml
from aiohttp import web
from relay.core.model import Filter
from relay.sealing.master_keys import GivenKeys, MasterKey
from relay.store.sqlite.read.ledger import open_reader
from tests import warm_start

KEY, NEXT = bytes(range(32)), bytes(range(32, 64))
PHONE, CARD, NAME, ADDRESS = "13812345678", "110101199003074512", "Zhang-Wei-Canary", "Canary-Road-77"
ORDER, WORDS, TOKEN, SHOWN = "order-canary-4711", "words-canary-55", "token-canary-6b1d", "header-canary-83"
REFERENCE, REPEATED = "reference-canary-91", "idempotency-canary-37"
CANARIES = [PHONE, CARD, NAME, ADDRESS, ORDER, WORDS, TOKEN, SHOWN, REFERENCE, REPEATED]
HEADERS = {"Relay-Reference": REFERENCE, "Idempotency-Key": REPEATED, "Relay-Key": ORDER}
PAYLOAD = {"order_id": ORDER, "phone": PHONE, "card": CARD, "receiver": {"name": NAME, "address": ADDRESS}}


class Place:
    """A directory with a configuration, its keys in files, and what runs there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "daemon.log"
        self.store = directory / "relay.db"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "STATE_"))}
        self.env["TMPDIR"] = str(directory / "tmp")
        (directory / "tmp").mkdir()
        (directory / "token").write_text(TOKEN)

    def configure(self, url: str, *, key: bytes | None, previous: bytes | None = None) -> None:
        """Write the configuration; the keys lie in files of their own."""
        encrypt: dict[str, Any] = {}
        for name, secret in (("key", key), ("previous", previous)):
            if secret is not None:
                (self.directory / name).write_text(base64.b64encode(secret).decode())
                encrypt[name] = "${file:key}" if name == "key" else ["${file:previous}"]
        config = {
            "version": 1,
            "ingest": {"listen": f"unix:{self.directory}/in"},
            "admin": {"listen": f"unix:{self.directory}/admin"},
            "platforms": {
                "shop": {
                    "url": url,
                    "key": "order_id",
                    "headers": {"Authorization": "Bearer ${file:token}"},
                    "breaker": "off",
                    "retry": {"times": 0, "backoff": "1s..1s"},
                }
            },
        }
        if encrypt:
            config["privacy"] = {"encrypt": encrypt}
        (self.directory / "config.yaml").write_text(yaml.safe_dump(config))

    def relay(self, *words: str, code: int = 0) -> str:
        """Run a command there; return what it wrote."""
        ran = warm_start.run_here(*words, env=self.env, cwd=self.directory)
        assert ran.code == code, ran
        return ran.out + ran.err

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Run the daemon; yield a client of both listeners (``in`` and ``admin`` of the URL's host choose)."""
        with self.log.open("ab") as log:
            process = warm_start.start("run", output=log, env=self.env, cwd=self.directory)
        try:
            connector = aiohttp.UnixConnector(str(self.directory / "in"))
            async with aiohttp.ClientSession(connector=connector) as client:
                async with asyncio.timeout(45):
                    while not await self.is_ready(client):
                        assert process.poll() is None, self.log.read_text()
                        await asyncio.sleep(0.02)
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            code = await process.end()
        assert code == 0, self.log.read_text()

    async def is_ready(self, client: aiohttp.ClientSession) -> bool:
        """Say whether the daemon accepts. Its socket file tells too little: it lies there before anybody listens."""
        try:
            async with client.get("http://localhost/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def post(
        self, client: aiohttp.ClientSession, payload: dict[str, Any], headers: dict[str, str] | None = None
    ) -> str:
        """Post a callback; return its id."""
        url = "http://localhost/v1/platforms/shop/callbacks"
        async with client.post(url, json=payload, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            callback_id: str = (await answer.json())["id"]
            return callback_id

    async def ask(self, path: str, *, method: str = "GET") -> Any:
        """Return the JSON, or the text, that the admin listener answers."""
        connector = aiohttp.UnixConnector(str(self.directory / "admin"))
        url = f"http://localhost{path}"
        async with aiohttp.ClientSession(connector=connector) as admin, admin.request(method, url) as answer:
            return await (answer.json() if answer.content_type == "application/json" else answer.text())

    async def until(self, path: str, wanted: Callable[[Any], bool]) -> Any:
        """Ask until the answer is as wanted; return it."""
        async with asyncio.timeout(45):
            while not wanted(answer := await self.ask(path)):
                await asyncio.sleep(0.02)
            return answer

    async def ends(self, callback_id: str, state: str) -> dict[str, Any]:
        """Wait until a callback is in a state; return it."""
        found: dict[str, Any] = await self.until(f"/v1/callbacks/{callback_id}", lambda view: view["state"] == state)
        return found

    def found(self) -> list[tuple[str, str]]:
        """Return which canaries stand in which file; the files of keys and secrets aside."""
        files = [file for file in self.directory.rglob("*") if file.is_file() and file.name not in ("token",)]
        found: list[tuple[str, str]] = []
        for file in files:
            with suppress(FileNotFoundError):  # a daemon puts what it wrote beside a file in its place
                content = file.read_bytes()
                found += [(file.name, canary) for canary in CANARIES if canary.encode() in content]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A directory."""
    return Place(tmp_path)


@pytest.fixture
async def shop() -> AsyncIterator[str]:
    """A platform that refuses everything and repeats what it was sent, its own words and our token with it."""

    async def refuse(request: web.Request) -> web.Response:
        said = f"{WORDS} {request.headers['Authorization']} {await request.text()}"
        return web.Response(status=400, text=said, headers={"X-Said": SHOWN})

    app = web.Application()
    app.router.add_post("/", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    await runner.cleanup()


async def test_canaries_are_found_nowhere(place: Place, shop: str) -> None:
    """Planted in payload, key, answer and header: not in database, WAL, log, metrics, problem or temporary file."""
    place.configure(shop, key=KEY)
    async with place.daemon() as client:
        callback_id = await place.post(client, PAYLOAD, HEADERS)
        view = await place.ends(callback_id, "dead")
        assert place.found() == []
        assert view["key"] == ORDER
        assert WORDS in view["attempts"][0]["excerpt"]
        assert "sealed" in await asyncio.to_thread(place.relay, "backup", "copy.db")
        await asyncio.to_thread(place.relay, "dead", "retry", "--key", ORDER, "--yes")
        metrics, keys = await place.ask("/metrics"), await place.ask("/v1/keys")
        assert [canary for canary in CANARIES if canary in metrics] == []
        assert (keys["state"], keys["keys"][0]["id"]) == ("sealed", MasterKey(KEY).id)
        async with client.post("http://localhost/v1/platforms/nowhere/callbacks", json=PAYLOAD) as answer:
            problem = await answer.text()
        assert [canary for canary in CANARIES if canary in problem] == []
    assert place.found() == []
    told = place.relay("ls", "--key", ORDER)
    assert "daemon not reachable" in told
    assert ORDER in told


async def test_swapped_rows_are_never_sent(place: Place, shop: str) -> None:
    """Two payloads are exchanged while the daemon is down: held, logged, counted and alerted; the third goes out."""
    place.configure("http://127.0.0.1:9/", key=KEY)
    async with place.daemon() as client:
        ids = [await place.post(client, {"order_id": f"order-{number}"}) for number in range(3)]
    with apsw.Connection(str(place.store)) as file:
        (first, one), (second, two), _ = file.execute("SELECT seq, body FROM payload ORDER BY seq").fetchall()
        file.executemany("UPDATE payload SET body = ? WHERE seq = ?", [(two, first), (one, second)])
    file.close()
    place.configure(shop, key=KEY)
    async with place.daemon():
        await place.ends(ids[2], "dead")  # this platform refuses what it gets
        for callback_id in ids[:2]:  # each is tried when its own retry time has come
            view = await place.until(f"/v1/callbacks/{callback_id}", lambda told: told["held"])
            assert view["reason"] == "sealed: does not open"
            assert [attempt["outcome"] for attempt in view["attempts"] if attempt["outcome"] != "down"] == []
        firing = await place.until("/v1/alerts", lambda told: any(one["rule"] == "held" for one in told["items"]))
        assert "shop" in str(firing["items"])
        assert 'relay_sealed_unopened_total{platform="shop"} 2.0' in await place.ask("/metrics")
    told = [json.loads(line) for line in place.log.read_text().splitlines() if '"seal_broken"' in line]
    assert {(line["level"], line["platform"]) for line in told} == {("error", "shop")}
    assert sorted(one for line in told for one in line["callbacks"]) == sorted(ids[:2])


async def test_a_life_with_keys(place: Place, shop: str) -> None:
    """Switched on by a reload, rotated, not started with a wrong key, not switched off; then an order is forgotten."""
    place.configure("http://127.0.0.1:9/", key=None)
    async with place.daemon() as client:
        await place.post(client, PAYLOAD)
        place.configure("http://127.0.0.1:9/", key=KEY)
        assert (await place.ask("/v1/config/reload", method="POST"))["applied"]
        await place.until("/v1/keys", lambda told: told["state"] == "sealed")
        assert place.found() == []
        place.configure("http://127.0.0.1:9/", key=None)
        assert MasterKey(KEY).id in str(await place.ask("/v1/config/reload", method="POST"))
        place.configure("http://127.0.0.1:9/", key=NEXT, previous=KEY)
        assert (await place.ask("/v1/config/reload", method="POST"))["applied"]
        told = await asyncio.to_thread(place.relay, "keys", "rotate")
        assert MasterKey(NEXT).id in told
    before = place.store.read_bytes()
    place.configure("http://127.0.0.1:9/", key=KEY)
    wrong = place.relay("run", code=1)
    assert MasterKey(NEXT).id in wrong
    assert place.store.read_bytes() == before
    place.configure("http://127.0.0.1:9/", key=NEXT)
    told = place.relay("keys", "forget", "--key", ORDER, "--reason", "asked for")
    assert "1 of 1 callbacks forgotten" in told
    reader = open_reader(place.store, keys=GivenKeys(NEXT))
    (item,), _ = reader.callbacks(Filter(), cursor=None, limit=5)
    assert (item.state, item.reason, item.key) == ("dead", "forgotten", None)
    reader.close()
    assert place.found() == []


async def test_forgetting_while_it_runs(place: Place) -> None:
    """The daemon destroys what is kept of an order; the audit says who and why, with a hash in place of the order."""
    place.configure("http://127.0.0.1:9/", key=KEY)
    async with place.daemon() as client:
        callback_id = await place.post(client, PAYLOAD)
        other = await place.post(client, {"order_id": "another"})
        told = await asyncio.to_thread(
            place.relay, "keys", "forget", "--key", ORDER, "--reason", "the buyer asked", "-o", "json"
        )
        assert json.loads(told)["state"] == "done"
        view = await place.ask(f"/v1/callbacks/{callback_id}")
        assert (view["state"], view["reason"], view["key"]) == ("dead", "forgotten", None)
        assert view["payload_deleted"]
        assert (await place.ask(f"/v1/callbacks/{other}"))["key"] == "another"
        audit = json.dumps(await place.ask("/v1/audit"))
        assert "keys.forget" in audit
        assert "the buyer asked" in audit
        assert "hash:" in audit
        assert ORDER not in audit
    assert place.found() == []


async def test_a_restored_backup_forgets_again(place: Place) -> None:
    """Backup, an order forgotten, the key rotated, the backup restored: the order is gone from it, others stay."""
    place.configure("http://127.0.0.1:9/", key=KEY)
    async with place.daemon() as client:
        await place.post(client, PAYLOAD, HEADERS)
        other = await place.post(client, {"order_id": "another"})
        assert "sound, sealed" in await asyncio.to_thread(place.relay, "backup", "copy.db")
    place.relay("keys", "forget", "--key", ORDER, "--reason", "the buyer asked")
    place.relay("keys", "forget", "--before", "2020-01-01", "--reason", "old")
    assert place.relay("keys", "forget", "--before", "0d", "--platform", "shpo", "--reason", "a slip", code=1)
    place.configure("http://127.0.0.1:9/", key=NEXT, previous=KEY)
    place.relay("keys", "rotate")
    told = json.loads(place.relay("restore", "copy.db", "-o", "json"))
    assert told["forgotten_again"] == 1
    async with place.daemon():
        page = await place.ask("/v1/callbacks")
        assert [(each["id"] == other, each["key"], each["reason"]) for each in page["items"]] == [
            (True, "another", page["items"][0]["reason"]),
            (False, None, "forgotten"),
        ]
        records = [each for each in (await place.ask("/v1/audit"))["items"] if each["action"] == "keys.forget"]
        assert [each["reason"] for each in records] == ["restored: old", "restored: the buyer asked"]
    kept = place.store.read_bytes()
    place.store.write_bytes(kept[:4096] + b"x" * (len(kept) - 4096))
    assert "forget it again" in place.relay("restore", "copy.db")
