"""The operator's commands as real processes against a real admin listener."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from admin_side import USERS, AdminSide, admin_side
from aiohttp import web
from relay.core.model import Lane, NewCallback
from relay.store.sqlite.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


async def relay(*arguments: str, stdin: bytes = b"", **env: str) -> Ran:
    """Run ``relay`` as a process."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**kept, "TZ": "Asia/Shanghai", **env},
    )
    out, err = await process.communicate(stdin)
    return Ran(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def side() -> AsyncIterator[AdminSide]:
    """An admin side without users."""
    async with admin_side() as running:
        yield running


async def test_status_shows_platforms_and_ledger(side: AdminSide) -> None:
    """The table an operator looks at first: state, queue, limit use, drain time, and the sum that must add up."""
    await side.accept(2500)
    side.clock.at += 130
    side.control.facts["shop-b"] = {"broken": True, "breaker_reason": "5 failures in a row"}

    ran = await relay("status", "--admin", side.url)

    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0].split() == ["PLATFORM", "STATE", "DUE", "OLDEST", "RETRY", "DEAD", "USED/CAP", "DRAIN"]
    assert lines[1].split() == ["shop-a", "ok", "2500", "2m10s", "-", "0", "0/100", "min", "1m30s"]
    assert lines[2].split() == ["shop-b", "broken", "0", "-", "-", "0", "-", "-"]
    assert lines[3] == "shop-b broken: 5 failures in a row"
    assert lines[4] == "LEDGER  2500 in = 0 delivered + 2500 queued + 0 dead + 0 unaccounted"


async def test_json_output_is_the_apis(side: AdminSide) -> None:
    """-o json for one document, -o jsonl for a line each."""
    await side.accept(3)

    status = (await relay("status", "--admin", side.url, "-o", "json")).json()
    listed = (await relay("ls", "--admin", side.url, "-o", "json", "--limit", "2")).json()
    rest = (await relay("ls", "--admin", side.url, "-o", "json", "--cursor", listed["next"])).json()
    lines = (await relay("ls", "--admin", side.url, "-o", "jsonl")).out.splitlines()

    assert status["ledger"]["total"]["accepted"] == 3
    assert (len(listed["items"]), len(rest["items"]), rest["next"]) == (2, 1, None)
    assert [json.loads(line)["id"] for line in lines] == [each["id"] for each in listed["items"] + rest["items"]]


async def test_ls_filters_and_show_explains(side: AdminSide) -> None:
    """One callback is found by its key; showing it tells why it waits, its payload masked."""
    await side.accept(3)
    (callback_id,) = await side.accept(1, key="订单-7")

    listed = await relay("ls", "--admin", side.url, "--key", "订单-7")
    shown = await relay("show", callback_id, "--admin", side.url, "--payload")
    missing = await relay("show", "NOSUCH", "--admin", side.url)

    assert [line.split()[0] for line in listed.out.splitlines()] == ["ID", callback_id]
    assert "订单-7" in shown.out
    assert "for slot" in shown.out
    assert '"phone": "138****5678"' in shown.out
    assert "13812345678" not in shown.out
    assert (missing.code, "no callback 'NOSUCH'" in missing.err) == (1, True)


async def test_dead_letters_are_retried_with_a_count_that_must_fit(side: AdminSide) -> None:
    """Counted, asked, done and reported; what was skipped is said with its reason."""
    keyed = await side.accept(2, key="A-1")
    await side.bury(await side.accept(3))
    await side.bury(keyed[:1])
    running = asyncio.create_task(side.operations.run())
    filters = ("--admin", side.url, "--platform", "shop-a")

    dry = await relay("dead", "retry", *filters, "--dry-run")
    unasked = await relay("dead", "retry", *filters)
    listed = await relay("dead", "ls", *filters, "-o", "json")
    done = await relay("dead", "retry", *filters, "--yes", "--reason", "shop is back")
    nothing = await relay("dead", "retry", *filters, "--yes")
    running.cancel()

    assert (dry.code, dry.out) == (0, "4 dead callbacks would be taken; nothing was done\n")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert len(listed.json()["items"]) == 4
    assert (done.code, done.out) == (0, "operation 3: 4 of 4 queued again\n")
    assert nothing.out == "nothing to retry: 0 dead callbacks match\n"
    assert side.store._audit[-1]["reason"] == "shop is back"


async def test_dead_letters_are_dropped_by_id(side: AdminSide) -> None:
    """Only the named ones lose their payload; totals stay."""
    ids = await side.accept(2)
    await side.bury(ids)
    running = asyncio.create_task(side.operations.run())

    done = await relay("dead", "drop", ids[0], "--admin", side.url, "--yes", "-o", "json")
    running.cancel()

    assert (done.code, done.json()["done"]) == (0, 1)
    assert (await side.store.callback(ids[0], payload=True) or {})["payload"] is None
    assert (await side.store.totals())["shop-a"]["dead"] == 2


async def test_a_platform_is_paused_resumed_and_flushed(side: AdminSide) -> None:
    """Each says what it did; the reason reaches the relay; a typo is answered with what was meant."""
    paused = await relay("pause", "shop-a", "--admin", side.url, "--reason", "stocktaking")
    flushed = await relay("flush", "shop-a", "--admin", side.url)
    resumed = await relay("resume", "shop-a", "--admin", side.url)
    typo = await relay("pause", "shop-q", "--admin", side.url)

    assert paused.out == "shop-a paused: 0 pending, now paused\n"
    assert flushed.out == "shop-a flushed: 0 pending, now paused\n"
    assert resumed.out == "shop-a resumed: 0 pending, now ok\n"
    assert side.control.asked[0] == ("pause", "shop-a", "stocktaking")
    assert (typo.code, "did you mean 'shop-" in typo.err) == (1, True)


async def test_the_daemon_is_found_by_its_configuration(tmp_path: Path) -> None:
    """A unix socket named in the file, by -c and by RELAY_CONFIG; the token comes from RELAY_TOKEN."""
    socket = tmp_path / "admin.sock"
    config = tmp_path / "relay.yaml"
    config.write_text(f"version: 1\nadmin: {{listen: 'unix:{socket}'}}\nplatforms: {{}}\n")
    async with admin_side(users=USERS, listen=f"unix:{socket}"):
        by_option = await relay("status", "-c", str(config), RELAY_TOKEN="viewer-token")
        by_environment = await relay("status", RELAY_CONFIG=str(config), RELAY_TOKEN="viewer-token")
        without_token = await relay("status", "-c", str(config))
        not_allowed = await relay("pause", "shop-a", "-c", str(config), RELAY_TOKEN="viewer-token")

    assert (by_option.code, by_environment.code) == (0, 0)
    assert by_option.out == by_environment.out
    assert (without_token.code, "RELAY_TOKEN" in without_token.err) == (1, True)
    assert (not_allowed.code, "operator, admin" in not_allowed.err) == (1, True)


async def test_a_daemon_that_is_down_is_exit_code_4(tmp_path: Path) -> None:
    """Changing anything needs the daemon; the message names the address. Wrong usage is 2, a bad file 1."""
    address = f"unix:{tmp_path}/none.sock"
    broken = tmp_path / "broken.yaml"
    broken.write_text("admin: {listen: [")

    for command in (["pause", "shop-a"], ["dead", "retry", "--yes"]):
        ran = await relay(*command, "--admin", address)

        assert (ran.code, ran.err.startswith(f"relay: daemon not reachable at {address}")) == (4, True), ran.err
    assert (await relay("pause")).code == 2
    assert (await relay("status", "-c", str(tmp_path / "none.yaml"))).code == 1
    assert (await relay("status", "-c", str(broken))).code == 1


async def test_the_configuration_is_reloaded(side: AdminSide) -> None:
    """A dry run changes nothing; a bad file is exit code 1 with every problem."""
    dry = await relay("reload", "--dry-run", "--admin", side.url)
    done = await relay("reload", "--admin", side.url)
    side.config.problems = ["relay.yaml:3:1: E010 unknown key"]
    bad = await relay("reload", "--admin", side.url)

    assert (dry.code, dry.out) == (0, "0 changes; nothing was done\n")
    assert (done.code, done.out) == (0, "0 changes\n")
    assert side.config.reloads == [(True, False), (False, False), (False, False)]
    assert (bad.code, bad.err.splitlines()[0]) == (1, "relay.yaml:3:1: E010 unknown key")


async def test_a_store_is_read_when_its_daemon_is_down(tmp_path: Path) -> None:
    """Reading goes on from the file, says so, and masks payloads; the answers are the API's."""
    config = tmp_path / "relay.yaml"
    config.write_text(
        f"admin: {{listen: 'unix:{tmp_path}/a'}}\nstore: {{url: sqlite:r.db}}\nplatforms: {{shop-b: {{}}}}\n"
    )
    store = await SqliteStore.open(tmp_path / "r.db")
    row = NewCallback("shop-a", b'{"phone":"13812345678"}', "A-1", None, Lane.NORMAL, 3600.0, None, None, None, "")
    ids = (await store.accept([row, row._replace(key="A-2")])).ids
    await store.close()

    status = await relay("status", "-c", str(config))
    listed = await relay("ls", "-c", str(config), "--key", "A-1", "-o", "json")
    shown = await relay("show", ids[0], "-c", str(config), "--payload", "-o", "json")
    dead = await relay("dead", "ls", "-c", str(config), "-o", "json")
    typo = await relay("ls", "-c", str(config), "--since", "yesterday")
    changed = await relay("pause", "shop-a", "-c", str(config))
    empty = await relay("status", "-c", str(config), STATE_DIRECTORY=str(tmp_path / "none"))
    other = await relay("status", "--admin", f"unix:{tmp_path}/a")

    lines = status.out.splitlines()
    assert status.err == f"daemon not reachable at unix:{tmp_path}/a; reading r.db directly\n"
    assert lines[1].split()[:3] == ["shop-b", "unknown", "0"]
    assert lines[2].split()[:3] == ["shop-a", "unknown", "2"]
    assert lines[-1] == "LEDGER  2 in = 0 delivered + 2 queued + 0 dead + 0 unaccounted"
    assert [item["id"] for item in listed.json()["items"]] == ids[:1]
    assert shown.json()["payload"] == {"phone": "138****5678"}
    assert shown.json()["waiting"] == {"for": "the daemon to run", "until": None}
    assert dead.json() == {"items": [], "next": None}
    assert (typo.code, "'since'" in typo.err) == (1, True)
    assert (changed.code, changed.out) == (4, "")
    assert (empty.code, "r.db does not exist" in empty.err) == (4, True)
    assert (other.code, other.out) == (4, "")


async def test_send_posts_what_the_order_center_would() -> None:
    """Payload bytes, headers and the answer's id; NDJSON prints an id per line."""
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def accept(request: web.Request) -> web.Response:
        seen.append((request.path, dict(request.headers), await request.read()))
        if request.content_type == "application/x-ndjson":
            return web.json_response({"accepted": 2, "duplicates": 0, "ids": ["X1", "X2"]}, status=202)
        return web.json_response({"id": "X1", "platform": "shop-a", "state": "pending"}, status=202)

    application = web.Application()
    application.router.add_post("/v1/platforms/{platform}/callbacks", accept)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        one = await relay(
            "send", "shop-a", "--ingest", url, "--key", "订单-7", "--event", "order.paid", stdin=b'{"n": 1}'
        )
        many = await relay("send", "shop-a", "-", "--ndjson", "--ingest", url, stdin=b"{}\n{}\n", RELAY_TOKEN="t")
    finally:
        await runner.cleanup()

    assert (one.code, one.out) == (0, "X1\n")
    assert (many.code, many.out) == (0, "X1\nX2\n")
    path, headers, body = seen[0]
    assert (path, body) == ("/v1/platforms/shop-a/callbacks", b'{"n": 1}')
    assert (headers["Relay-Key"], headers["Relay-Event"], headers["Content-Type"]) == (
        "订单-7",
        "order.paid",
        "application/json",
    )
    assert seen[1][1]["Authorization"] == "Bearer t"
