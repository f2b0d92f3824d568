"""The daemon and the commands over a history file: what left the server is found, refused, told of and backed up."""

import json
from pathlib import Path
from typing import Any

import pytest
from relay.store.sqlite.read.ledger import open_reader
from tests import warm_start
from tests.e2e.harness import Bench, bench, until
from tests.store.edge_host import Host
from tests.store.harness import bury, claimed, deliver, note, post, rules
from tests.store.valkey import ValkeyServer

_KEEP = {"delivered": "3650d", "dead": "3650d", "history": "3650d"}


async def _moved(server: ValkeyServer, directory: Path) -> list[str]:
    """Let a host move a delivered and a dead callback; a dead one stays on the server. Return their ids."""
    wanted = rules("shop", keep_delivered_s=60.0, keep_dead_s=60.0, keep_history_s=1e9)
    host = Host(server, directory, "relay", name="edge-1")
    store = await host.start(wanted=wanted)
    ids = list((await post(store, note(b'{"phone":"13800138000"}', key="o-1"))).ids)
    await deliver(store, await claimed(store), host.clock)
    ids += (await post(store, note(b'{"n":2}', key="o-2"))).ids
    await bury(store, await claimed(store), host.clock)
    host.clock.advance(61)
    assert not await store.prune()
    ids += (await post(store, note(b'{"n":3}', key="o-3"))).ids
    await bury(store, await claimed(store), host.clock)
    await store.close()
    return ids


async def _answer(run: Bench, path: str, **given: Any) -> tuple[int, Any]:
    async with run.http.request("POST" if given else "GET", f"{run.admin}{path}", json=given or None) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.timeout(120)
async def test_what_left_the_server_is_found(tmp_path: Path, server: ValkeyServer) -> None:
    """By id and in pages, masked; each command tells of it; what died is sent again by its id."""
    delivered, dead, stays = await _moved(server, tmp_path)
    store = {"url": server.url, "spool": {"path": str(tmp_path / "edge-1.db")}, "keep": _KEEP}
    async with bench(tmp_path, platform={"rate": "100/s"}, sandbox=(), store=store, host="edge-1") as run:
        config = str(tmp_path / "config.yaml")
        status, found = await _answer(run, f"/v1/callbacks/{delivered}?payload=1")
        assert (status, found["state"], found["history"]) == (200, "delivered", "edge-1")
        assert found["payload"] == {"phone": "138****8000"}
        assert len(found["attempts"]) == 1
        listed, cursor = [], ""
        while cursor is not None:
            _, page = await _answer(run, f"/v1/callbacks?limit=1{cursor and '&cursor='}{cursor}")
            listed += [(each["id"], each.get("history")) for each in page["items"]]
            cursor = page["next"]
        assert listed == [(stays, None), (dead, "edge-1"), (delivered, "edge-1")]
        async with run.http.delete(f"{run.ingest}/v1/callbacks/{delivered}") as response:
            assert (response.status, (await response.json())["code"]) == (409, "final")
        async with run.http.get(f"{run.admin}/v1/callbacks?format=jsonl") as response:
            exported = [json.loads(line) for line in (await response.text()).splitlines()[1:]]
        assert [each["id"] for each in exported] == [stays, dead, delivered]
        async with run.http.get(f"{run.admin}/metrics") as response:
            assert "relay_history_callbacks 2.0" in await response.text()
        _, hosts = await _answer(run, "/v1/hosts")
        assert [(each["name"], each["history"]) for each in hosts["items"]] == [("edge-1", 2)]
        code, told, _ = warm_start.run_here("show", delivered, "-c", config)
        assert code == 0
        assert "in the history file of edge-1" in " ".join(told.split())
        copy = tmp_path / "copy.db"
        assert warm_start.run_here("backup", "--history", str(copy), "-c", config)[0] == 0
        reader = open_reader(copy)
        assert reader.finals() == 2
        reader.close()
        _, told, _ = warm_start.run_here("doctor", "-o", "json", "-c", config)
        (history,) = [each for each in json.loads(told) if each["what"] == "history"]
        assert (history["state"], "2 callbacks" in history["detail"]) == ("ok", True)
        code, told, _ = warm_start.run_here(
            "keys", "forget", "--key", "o-1", "--reason", "asked", "--yes", "-c", config
        )
        assert code == 0
        assert "0 of 0 callbacks forgotten" in told
        assert "and 1 callback in history files so far" in told
        _, found = await _answer(run, f"/v1/callbacks/{delivered}?payload=1")
        assert (found["key"], found["payload_deleted"]) == (None, True)
        assert warm_start.run_here("dead", "retry", dead, "--yes", "--reason", "found", "-c", config)[0] == 0

        async def sent() -> bool:
            _, found = await _answer(run, f"/v1/callbacks/{dead}")
            return bool(found["state"] == "delivered")

        await until(sent, timeout_s=30, what="the dead one is sent again")


@pytest.mark.timeout(120)
async def test_what_is_overdue_moves_at_once(tmp_path: Path, server: ValkeyServer) -> None:
    """A host that starts, or takes a platform over, does not wait for its next minute."""
    await _moved(server, tmp_path)
    keep = {"delivered": "1s", "dead": "1s", "history": "3650d"}
    store = {"url": server.url, "spool": {"path": str(tmp_path / "edge-1.db")}, "keep": keep}
    async with bench(tmp_path, platform={"rate": "100/s"}, sandbox=(), store=store, host="edge-1") as run:

        async def moved() -> bool:
            _, hosts = await _answer(run, "/v1/hosts")
            return [each["history"] for each in hosts["items"]] == [3]

        await until(moved, timeout_s=40, what="all three in the file")


def test_a_file_that_is_not_asked_for_any_more(tmp_path: Path) -> None:
    """Nothing leaves it, so it is told; a backup of a history needs a server."""
    config = tmp_path / "config.yaml"
    text = "version: 1\nplatforms: {a: {url: 'https://x.example/'}}\n"
    config.write_text(f"{text}store: {{url: 'redis://127.0.0.1:9/0'}}\n")
    (tmp_path / "spool.db.history").write_bytes(b"")
    told = warm_start.run_here("doctor", "-c", str(config))[1]
    assert "nothing leaves it while store.keep.history is not set" in " ".join(told.split())
    config.write_text(text)
    code, _, said = warm_start.run_here("backup", "--history", str(tmp_path / "copy"), "-c", str(config))
    assert (code, "there is no history file beside it" in said) == (1, True)
