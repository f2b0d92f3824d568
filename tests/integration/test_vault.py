"""A master key that Vault wraps: a stand-in speaks its transit API, on a socket."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from relay.config.load import loads
from relay.core.errors import StoreUnusable
from relay.daemon.stores import key_source
from relay.sealing.master_keys import GivenKeys, KeysUnavailable
from relay.sealing.vault import VaultTransit
from relay.store.sqlite.backend import SqliteStore
from tests.clocks import FakeClock
from tests.store.harness import note, post, rules, shown

TOKEN = "s.transit-token"


class Vault:
    """Encrypts and decrypts as the transit engine does: base64 in, ``vault:v1:`` and base64 out."""

    def __init__(self) -> None:
        self.url = ""
        self.kept: dict[str, str] = {}
        self.asked: list[str] = []
        self.answer: Any = None  # in place of the right one

    async def serve(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.asked.append(request.path)
        if request.headers.get("X-Vault-Token") != TOKEN:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        body = await request.json()
        if self.answer is not None:
            return web.Response(text=self.answer)
        if request.match_info["verb"] == "encrypt":
            text = f"vault:v1:{secrets.token_hex(12)}"
            self.kept[text] = body["plaintext"]
            return web.json_response({"data": {"ciphertext": text, "key_version": 1}})
        if body["ciphertext"] not in self.kept:
            return web.json_response({"errors": ["cipher: message authentication failed"]}, status=400)
        return web.json_response({"data": {"plaintext": self.kept[body["ciphertext"]]}})


@pytest.fixture
async def vault() -> AsyncIterator[Vault]:
    """A stand-in on a free port."""
    made = Vault()
    app = web.Application()
    app.router.add_post("/v1/{mount}/{verb}/relay", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    await runner.cleanup()


async def opened(path: Path, keys: VaultTransit | GivenKeys) -> SqliteStore:
    """Open and configure."""
    store = await SqliteStore.open(path, clock=FakeClock(), keys=keys)
    await store.configure(rules())
    return store


async def test_the_store_opens_with_vault_alone(vault: Vault, tmp_path: Path) -> None:
    """The first start has Vault wrap a new key, the next one has it unwrapped; without Vault nothing opens."""
    path = tmp_path / "relay.db"
    keys = VaultTransit(vault.url, "transit/relay", TOKEN)
    store = await opened(path, keys)
    (callback_id,) = (await post(store, note(b"payload-canary", key="a"))).ids
    await store.close()
    assert vault.asked == ["/v1/transit/encrypt/relay"]
    (wrapped, plain) = next(iter(vault.kept.items()))
    assert wrapped.encode() in path.read_bytes()
    assert base64.b64decode(plain) not in path.read_bytes()
    assert b"payload-canary" not in path.read_bytes()
    again = await opened(path, VaultTransit(vault.url, "transit/keys/relay", TOKEN))
    assert (await shown(again, callback_id, payload=True)).payload == b"payload-canary"
    await again.close()
    assert vault.asked[1:] == ["/v1/transit/decrypt/relay"]
    with pytest.raises(KeysUnavailable, match="403"):
        await opened(path, VaultTransit(vault.url, "relay", "wrong"))
    with pytest.raises(StoreUnusable):
        await opened(path, GivenKeys(b"k" * 32))
    with pytest.raises(KeysUnavailable, match="does not answer"):
        await opened(path, VaultTransit("http://127.0.0.1:9", "transit/relay", TOKEN))


async def test_a_rotation_has_another_key_wrapped(vault: Vault, tmp_path: Path) -> None:
    """No other configuration is needed: Vault wraps a new key, and the old one opens nothing any more."""
    path = tmp_path / "relay.db"
    keys = VaultTransit(vault.url, "transit/relay", TOKEN)
    store = await opened(path, keys)
    (callback_id,) = (await post(store, note(b"1"))).ids
    before = (await store.sealing.status()).keys[0].id
    rotated = await store.sealing.rotate()
    assert (rotated.key != before, rotated.data_keys) == (True, 2)
    await store.close()
    again = await opened(path, keys)
    assert (await shown(again, callback_id, payload=True)).payload == b"1"
    assert [key.id for key in (await again.sealing.status()).keys] == [rotated.key]
    await again.close()


async def test_rotations_and_reloads_at_once(vault: Vault, tmp_path: Path) -> None:
    """Each begins with what the one before it has written, so none misses a key; the last key opens everything."""
    keys = VaultTransit(vault.url, "transit/relay", TOKEN)
    store = await opened(tmp_path / "relay.db", keys)
    (callback_id,) = (await post(store, note(b"1"))).ids
    first, _, second = await asyncio.gather(store.sealing.rotate(), store.sealing.use(keys), store.sealing.rotate())
    assert (first.data_keys, second.data_keys) == (2, 2)
    await store.close()
    again = await opened(tmp_path / "relay.db", keys)
    assert (await shown(again, callback_id, payload=True)).payload == b"1"
    assert [key.id for key in (await again.sealing.status()).keys] == [second.key]
    await again.close()


async def test_from_a_given_key_to_vault(vault: Vault, tmp_path: Path) -> None:
    """With the given key under ``previous`` a store goes over to Vault, and needs it until its keys are rotated."""
    path = tmp_path / "relay.db"
    store = await opened(path, GivenKeys(b"k" * 32))
    (callback_id,) = (await post(store, note(b"1"))).ids
    await store.sealing.use(VaultTransit(vault.url, "transit/relay", TOKEN, previous=[b"k" * 32]))
    await store.close()
    store = await opened(path, VaultTransit(vault.url, "transit/relay", TOKEN, previous=[b"k" * 32]))
    assert (await shown(store, callback_id, payload=True)).payload == b"1"
    await store.sealing.rotate()
    await store.close()
    again = await opened(path, VaultTransit(vault.url, "transit/relay", TOKEN))
    assert (await shown(again, callback_id, payload=True)).payload == b"1"
    await again.close()


@pytest.mark.parametrize("answer", ["", "{}", '{"data": 1}', '{"data": {"plaintext": "c2hvcnQ="}}', "<html>"])
async def test_what_is_no_answer_of_vault(vault: Vault, answer: str) -> None:
    """Anything else is refused in words, never taken for a key."""
    vault.answer = answer
    keys = VaultTransit(vault.url, "transit/relay", TOKEN)
    for kept in (None, "vault:v1:x"):
        with pytest.raises(KeysUnavailable) as refused:
            await asyncio.to_thread(keys.keys, kept)
        assert TOKEN not in str(refused.value)


def test_the_configuration_names_it(tmp_path: Path) -> None:
    """``key: {kms: vault, url, path, token}`` makes this source; an unknown service is an error."""
    head = "version: 1\nplatforms: {a: {url: https://a.example/}}\n"
    kms = {"kms": "vault", "url": "https://vault.example:8200", "path": "transit/relay", "token": TOKEN}
    text = f"{head}privacy: {{encrypt: {{key: {json.dumps(kms)}}}}}\n"
    assert isinstance(key_source(loads(text, path=tmp_path / "c.yaml")), VaultTransit)
