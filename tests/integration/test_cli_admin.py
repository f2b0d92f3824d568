"""The operator's commands as real processes against a real admin listener."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from admin_side import LEARNED, START, USERS, AdminSide, admin_side
from aiohttp import web
from relay.admin import filters
from relay.core.clock import wall_s
from relay.core.model import Lane, NewCallback, Rate
from relay.store.sqlite.backend import SqliteStore
from relay.views.configuration import ChangeView, PastReloadView, RefusedReloadView
from relay.views.moments import Instant
from tests import warm_start
from tests.warm_start import Ran

ROOT = Path(__file__).resolve().parents[2]


async def relay(*arguments: str, stdin: bytes = b"", **env: str) -> Ran:
    """Run ``relay`` as a process."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return await warm_start.run(*arguments, stdin=stdin, env={**kept, "TZ": "Asia/Shanghai", **env}, cwd=ROOT)


def _rate(limit: int, window_s: float, text: str) -> dict[str, Any]:
    return {"limit": limit, "window_s": window_s, "text": text}


def _learned(*, since_s: float) -> dict[str, Any]:
    """Return a limit of 40/min learned so long ago by the clock of whoever looks."""
    evidence = {**LEARNED["evidence"], "next_try_at": wall_s() + 1200}
    told = {"rates": [_rate(40, 60.0, "40/min")], "yaml": "rate: 40/min", "since": wall_s() - since_s}
    return {**LEARNED, **told, "evidence": evidence}


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
    assert lines[0].split() == [
        "PLATFORM",
        "STATE",
        "IN/S",
        "OUT/S",
        "PENDING",
        "OLDEST",
        "HELD",
        "DEAD",
        "USED",
        "DRAINED",
    ]
    assert lines[1].split() == ["shop-a", "ok", "0", "0", "2500", "2m10s", "0", "0", "0/100", "min", "1m30s"]
    assert lines[2].split() == ["shop-b", "broken", "0", "0", "0", "-", "0", "0", "-", "-"]
    assert lines[3] == "shop-b broken: 5 failures in a row"
    assert lines[4] == "LEDGER  2500 in = 0 delivered + 2500 pending + 0 dead + 0 unaccounted"


async def test_status_fits_a_terminal(side: AdminSide) -> None:
    """At 80 columns no line is longer, however long a reason is."""
    side.control.facts["shop-b"] = {"broken": True, "breaker_reason": "word " * 60}

    ran = await relay("status", "--admin", side.url, COLUMNS="80")

    assert max(map(len, ran.out.splitlines())) <= 80
    assert " ".join(ran.out.split()).count("word word") >= 29


@pytest.mark.parametrize("command", ["alerts", "hosts"])
async def test_what_is_no_table_fits_a_terminal_too(side: AdminSide, command: str) -> None:
    """A sentence that is longer than 60 columns goes on in the next line; in a pipe it is one line."""
    shown = (await relay(command, "--admin", side.url, COLUMNS="60")).out
    piped = (await relay(command, "--admin", side.url)).out

    assert max(map(len, piped.splitlines())) > 60 >= max(map(len, shown.splitlines()))
    assert shown.split() == piped.split()


async def test_status_says_which_certificate_ends_soon(side: AdminSide) -> None:
    """Of two the one that ends first, from 14 days on; the API has it at any time."""
    side.metrics.certificates["shop-a"] = {"server": side.clock.at + 9.5 * 86400, "client": side.clock.at + 80 * 86400}
    side.metrics.certificates["shop-b"] = {"server": side.clock.at + 14.5 * 86400}
    ran = await relay("status", "--admin", side.url)
    assert "shop-a: a TLS certificate (server) " in ran.out
    assert "shop-b: a TLS" not in ran.out
    told = {
        each["name"]: each["certificate"]
        for each in (await relay("status", "--admin", side.url, "-o", "json")).json()["platforms"]
    }
    assert told["shop-a"] == {"whose": "server", "ends_at": "2026-10-01T02:13:20.000Z", "days_left": 9}
    assert told["shop-b"]["days_left"] == 14


async def test_status_says_what_fires(side: AdminSide) -> None:
    """The last line names the alerts that fire, and the command that tells more; as JSON they are whole."""
    ran = await relay("status", "--admin", side.url)
    as_json = (await relay("status", "--admin", side.url, "-o", "json")).json()

    assert ran.out.splitlines()[-1] == "ALERTS  1 firing (relay alerts): late shop-a"
    assert [each["rule"] for each in as_json["alerts"]] == ["late"]


async def test_status_says_why_since_when_and_until_when(side: AdminSide) -> None:
    """The cause first, then since when and until when; what is held has a column of its own."""
    side.clock.at = wall_s()
    now = side.clock.at
    await side.accept(1)
    side.control.facts["shop-a"] = {
        "throttled_until": now + 1800,
        "throttle_reason": "errcode=45011",
        "throttled_since": now - 180,
    }
    side.control.facts["shop-b"] = {
        "broken": True,
        "breaker_reason": "token: errcode 40001 from api.example",
        "broken_since": now - 600,
        "probe_at": now + 20,
    }

    lines = (await relay("status", "--admin", side.url)).out.splitlines()

    assert re.fullmatch(
        r"shop-a throttled: errcode=45011; since .* \(3m.* ago\); until .* \(in (30m|29m\d\ds)\)", lines[3]
    )
    assert re.fullmatch(
        r"shop-b broken: token: errcode 40001 from api.example; since .* \(10m.* ago\); next try .* \(in \d+s\)",
        lines[4],
    )


async def test_status_says_that_the_last_reload_was_refused(side: AdminSide) -> None:
    """When that was and which command names the problems, until a reload succeeds."""
    side.clock.at = wall_s()
    before = await relay("status", "--admin", side.url)
    side.config.refused = RefusedReloadView(Instant(side.clock.at - 180), 2, "relay config check")

    after = await relay("status", "--admin", side.url)

    assert "CONFIG" not in before.out
    line = after.out.splitlines()[-1]
    assert re.fullmatch(r"CONFIG  reload refused .*\d\d:\d\d:\d\d \+08:00 \(3m.* ago\): relay config check", line)
    as_json = (await relay("status", "--admin", side.url, "-o", "json")).json()
    assert as_json["refused_reload"]["problems"] == 2


async def test_the_last_reloads_are_shown(side: AdminSide) -> None:
    """Newest first: when, by whom, with what result, what it changed, and the command that says what is wrong."""
    none = await relay("config", "reloads", "--admin", side.url)
    side.clock.at = wall_s()
    side.config.past = [
        PastReloadView(
            at=Instant(side.clock.at - ago_s), by=by, result=result, changes=changes, problems=problems, todo=todo
        )
        for ago_s, by, result, changes, problems, todo in (
            (60, "ops", "refused", [], 2, "relay config check"),
            (180, "SIGHUP", "applied", ["~ platforms.shop-a.rate 100/min -> 7/min"], 0, ""),
        )
    ]

    shown = (await relay("config", "reloads", "--admin", side.url)).out.splitlines()

    assert none.out == "no reload since the start\n"
    assert re.fullmatch(r".*\(1m.* ago\) by ops: refused, 2 problems: relay config check", shown[0])
    assert re.fullmatch(r".*\(3m.* ago\) by SIGHUP: applied", shown[1])
    assert shown[2:] == ["  ~ platforms.shop-a.rate 100/min -> 7/min"]
    as_json = (await relay("config", "reloads", "--admin", side.url, "-o", "json")).json()
    assert [(one["by"], one["result"]) for one in as_json] == [("ops", "refused"), ("SIGHUP", "applied")]


async def test_dropped_dead_letters_are_listed_when_asked_for(side: AdminSide) -> None:
    """``dead drop`` takes them off the list and the count; ``--dropped`` lists them; the ledger keeps them."""
    (one,) = await side.accept(1)
    await side.reject()
    before = (await relay("dead", "ls", "--admin", side.url, "-o", "json")).json()["items"]

    await relay("dead", "drop", one, "--admin", side.url, "--yes", "--no-wait")
    for number in await side.store.open_operations():
        await side.store.step_operation(number, 10)

    after = (await relay("dead", "ls", "--admin", side.url, "-o", "json")).json()["items"]
    dropped = (await relay("dead", "ls", "--dropped", "--admin", side.url, "-o", "json")).json()["items"]
    status = (await relay("status", "--admin", side.url, "-o", "json")).json()
    assert ([item["id"] for item in before], after, [item["id"] for item in dropped]) == ([one], [], [one])
    assert status["platforms"][0]["dead"] == 0
    assert status["ledger"]["total"]["dead"] == 1


async def test_held_callbacks_are_told_as_such(side: AdminSide) -> None:
    """``pending (held)`` in lists, one callback and its explanation."""
    (one,) = await side.accept(1)
    await side.hold()

    listed = (await relay("ls", "--admin", side.url)).out
    shown = (await relay("show", one, "--admin", side.url)).out
    why = (await relay("explain", one, "--admin", side.url)).out
    status = (await relay("status", "--admin", side.url)).out.splitlines()

    assert "pending (held)" in listed
    assert "pending (held)" in shown
    assert f"{one}  pending (held) for shop-a: the answer was not recognised" in why
    assert dict(zip(status[0].split(), status[1].split(), strict=False))["HELD"] == "1"


async def test_a_storm_is_explained(side: AdminSide) -> None:
    """What a storm is, what ends it, and what a person does; no word of ours without its meaning."""
    (one,) = await side.accept(1)
    side.control.facts["shop-a"] = {
        "broken": True,
        "breaker_open": True,
        "breaker_reason": "storm: errcode=48001",
        "probe_at": START + 20,
    }

    why = (await relay("explain", one, "--admin", side.url)).out

    assert "in a storm (errcode=48001): batch after batch was wholly refused or not recognised" in why
    assert "the first one accepted ends it" in why
    assert "to do  mend the cause" in why


async def test_status_says_when_a_backlog_will_expire_before_it_is_sent(side: AdminSide) -> None:
    """Where sending it takes longer than callbacks live; not a second before."""
    await side.accept(2500)
    told = []
    for stopped_s in (86_309.0, 86_311.0):  # and 90 s more
        side.control.facts["shop-a"] = {"throttled_until": START + stopped_s}
        lines = (await relay("status", "--admin", side.url)).out.splitlines()
        told.append([line for line in lines if "expire" in line])

    assert told == [
        [],
        [
            "shop-a: all sent in about 1d, but callbacks expire after 1d: "
            "raise batch.max_items, rate or expires, or drop what nobody needs"
        ],
    ]


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
    assert "waiting   nothing holds it back" in shown.out
    assert '"phone": "138****5678"' in shown.out
    assert "13812345678" not in shown.out
    assert (missing.code, "no callback 'NOSUCH'" in missing.err) == (1, True)


async def test_ls_has_every_filter_of_the_api(side: AdminSide) -> None:
    """Each key of a filter is an option of ``relay ls``, and narrows the list as it does in ``GET /v1/callbacks``."""
    (one,) = await side.accept(1)
    await side.reject()
    reason = (await relay("show", one, "--admin", side.url, "-o", "json")).json()["reason"]
    two, _three = await side.accept(2)
    asked = {"reason": reason, "ids": f"{one},{two}", "code": "7", "state": "dead", "until": "1h", "event": "none"}

    found = {
        name: (await relay("ls", "--admin", side.url, f"--{name}", value, "-o", "jsonl")).out.count('"id"')
        for name, value in asked.items()
    }
    options = (await relay("ls", "--help")).out

    assert found == {"reason": 1, "ids": 2, "code": 0, "state": 1, "until": 0, "event": 0}
    assert [key for key in filters.KEYS if key != "dropped" and f"--{key}" not in options] == []


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
    assert (done.code, done.out) == (0, "operation 3: 4 of 4 pending again\n")
    assert nothing.out == "nothing to retry: 0 dead callbacks match\n"
    assert side.records[-1]["reason"] == "shop is back"


async def test_lists_have_the_filters_of_the_api(side: AdminSide) -> None:
    """By reason, by code and by ids, for all callbacks and for dead letters; groups by reason too."""
    waiting, gone = await side.accept(1, key="A-1"), await side.accept(2)
    await side.bury(gone)
    at = ("--admin", side.url, "-o", "json")

    async def ids(*asked: str) -> list[str]:
        return sorted(each["id"] for each in (await relay(*asked, *at)).json()["items"])

    reason = (await relay("dead", "ls", *at)).json()["items"][0]["reason"]
    assert await ids("ls", "--ids", f"{waiting[0]},{gone[0]}") == sorted([waiting[0], gone[0]])
    assert await ids("ls", "--reason", reason) == await ids("dead", "ls", "--reason", reason) == sorted(gone)
    assert await ids("dead", "ls", "--ids", gone[0]) == [gone[0]]
    assert await ids("ls", "--reason", "of nobody") == await ids("ls", "--code", "of nobody") == []
    assert len((await relay("dead", "groups", "--reason", reason, *at)).json()["items"]) == 1
    assert (await relay("dead", "groups", "--reason", "of nobody", *at)).json()["items"] == []


async def test_dead_letters_are_dropped_by_id(side: AdminSide) -> None:
    """Only the named ones lose their payload; totals stay."""
    ids = await side.accept(2)
    await side.bury(ids)
    running = asyncio.create_task(side.operations.run())

    done = await relay("dead", "drop", ids[0], "--admin", side.url, "--yes", "-o", "json")
    running.cancel()

    assert (done.code, done.json()["done"]) == (0, 1)
    dropped = await side.store.callback(ids[0], payload=True)
    assert dropped is not None
    assert dropped.payload is None
    assert (await side.store.totals())["shop-a"].dead == 2


async def test_a_tap_shows_what_comes_and_what_comes_of_it(side: AdminSide) -> None:
    """Only what is accepted from then on, and each change of it; no payload; a typo is answered."""
    await side.bury(await side.accept(1, key="before"))
    typo = await relay("tap", "shop-q", "--admin", side.url)
    tapped = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "tap", "shop-a", "--interval", "0.2", "--admin", side.url, "-o", "jsonl"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert tapped.stdout is not None
    try:
        line = asyncio.create_task(tapped.stdout.readline())
        ids: list[str] = []
        while not line.done():  # the tap may not have begun yet
            side.clock.at += 1
            ids += await side.accept(1, key=f"K-{len(ids)}")
            await asyncio.wait([line], timeout=0.1)
        told = [json.loads(await line)]
        await side.bury(ids)
        while told[-1]["what"] != "dead":
            told.append(json.loads(await tapped.stdout.readline()))
        tapped.send_signal(signal.SIGINT)
        rest = (await tapped.stdout.read()).decode()
        code = await tapped.wait()
    finally:
        if tapped.returncode is None:
            tapped.kill()

    assert code == 0
    first, last = told[0], told[-1]
    assert (first["what"], first["platform"], first["key"]) == ("accepted", "shop-a", f"K-{ids.index(first['id'])}")
    assert last["id"] in {each["id"] for each in told[:-1] if each["what"] == "accepted"}
    assert last["reason"]
    assert "before" not in {each["key"] for each in told}
    assert "13812345678" not in json.dumps(told) + rest
    assert (typo.code, "did you mean 'shop-" in typo.err) == (1, True)


async def test_held_callbacks_are_resolved(side: AdminSide) -> None:
    """As a person knows: delivered, sent again or dead; only the held ones; counted before, never all by mistake."""
    ids = await side.accept(4)
    for _ in range(3):
        await side.hold()
    running = asyncio.create_task(side.operations.run())
    here = ("--admin", side.url)

    everything = await relay("resolve", "--as", "delivered", "--yes", *here)
    unknown = await relay("resolve", ids[0], "--as", "lost", "--yes", *here)
    dry = await relay("resolve", "--platform", "shop-a", "--as", "dead", "--dry-run", *here)
    pending = await relay("resolve", ids[3], "--as", "delivered", "--yes", *here)
    unasked = await relay("resolve", ids[0], "--as", "delivered", *here)
    one = await relay("resolve", ids[0], "--as", "delivered", "--yes", "--reason", "seen there", *here)
    again = await relay("resolve", ids[1], "--as", "retry", "--yes", *here)
    rest = await relay("resolve", "--held-for", "200 OK, no rule matched", "--as", "dead", "--yes", *here)
    running.cancel()

    assert (everything.code, "say which" in everything.err) == (2, True)
    assert unknown.code == 2
    assert dry.out == "3 held callbacks would be taken; nothing was done\n"
    assert (pending.code, f"{ids[3]} is pending, not held" in pending.err) == (1, True)
    assert unasked.code == 2
    assert one.out.endswith(": 1 of 1 resolved\n")
    assert again.out.endswith(": 1 of 1 resolved\n")
    assert rest.out.endswith(": 1 of 1 resolved\n"), rest
    totals = (await side.store.totals())["shop-a"]
    assert (totals.delivered, totals.dead) == (1, 1)
    assert "seen there" in [each["reason"] for each in side.records]


async def test_a_platform_is_paused_resumed_and_flushed(side: AdminSide) -> None:
    """Each says what it did; the reason reaches the relay; a typo is answered with what was meant."""
    paused = await relay("pause", "shop-a", "--admin", side.url, "--reason", "stocktaking")
    flushed = await relay("flush", "shop-a", "--admin", side.url)
    resumed = await relay("resume", "shop-a", "--admin", side.url)
    await side.accept(3)
    side.control.backing_off = 2
    again = await relay("resume", "shop-a", "--admin", side.url)
    typo = await relay("pause", "shop-q", "--admin", side.url)

    assert paused.out == "shop-a paused: 0 pending, now paused\n"
    assert flushed.out == "shop-a flushed: 0 pending, now paused\n"
    assert resumed.out == "shop-a resumed: 0 pending, now ok\n"
    assert again.out == "shop-a resumed: 3 pending, 2 of them need not wait for their retry time, now ok\n"
    assert side.control.asked[0] == ("pause", "shop-a", "stocktaking")
    assert (typo.code, "did you mean 'shop-" in typo.err) == (1, True)


async def test_a_platform_is_paused_for_a_time(side: AdminSide) -> None:
    """The command, status and explain say when it resumes by itself."""
    side.clock.at = wall_s()
    ids = await side.accept(1)

    paused = await relay("pause", "shop-a", "--for", "30m", "--admin", side.url)
    status = await relay("status", "--admin", side.url)
    explained = await relay("explain", ids[0], "--admin", side.url)
    wrong = await relay("pause", "shop-a", "--for", "soon", "--admin", side.url)

    assert re.search(r"now paused; it resumes by itself at (\S+ )?\S+ \+08:00 \(in (30m|29m\d\ds)\)\n", paused.out)
    assert re.search(r"shop-a paused: .*; resumes by itself at (\S+ )?\S+ \+08:00 \(in (30m|29m\d\ds)\)\n", status.out)
    assert re.search(r"until +(\S+ )?\S+ \+08:00 \(in (30m|29m\d\ds)\)", explained.out)
    assert (wrong.code, "'for'" in wrong.err) == (1, True)


def aged(text: str) -> str:
    """Return it as if no time had passed since the test began."""
    return re.sub(r"learned 12m\d\ds ago", "learned 12m ago", text)


async def test_a_reason_does_not_leave_its_line(side: AdminSide) -> None:
    """Control characters and newlines that somebody gave as a reason do nothing to a terminal."""
    await side.accept()
    spoiled = "a\nb\x1b[2J\u2028c"
    told = "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}c"

    await relay("pause", "shop-a", "--reason", spoiled, "--admin", side.url)
    await relay("limit", "shop-b", "80/min", "--reason", spoiled, "--admin", side.url)
    status = await relay("status", "--admin", side.url)
    limit = await relay("limit", "shop-b", "--admin", side.url)

    assert f"shop-a paused: {told}\n" in status.out
    assert f"shop-b: an operator set 80/min: {told}\n" in status.out
    assert f"because   {told}\n" in limit.out


async def test_status_names_the_source_of_a_limit(side: AdminSide) -> None:
    """A limit nobody configured is told with its confidence and the line to adopt, until it is adopted."""
    side.control.facts["shop-a"] = {"learned_limit": _learned(since_s=720)}
    observed = {**_learned(since_s=720), "mode": "observe", "enforced": False}
    side.control.facts["shop-b"] = {"learned_limit": observed}
    await side.limited("learned:shop-a", Rate(40, 60.0))
    await side.accept(20)
    await side.sent(20)

    new = (await relay("status", "--admin", side.url)).out.splitlines()
    side.control.facts["shop-a"] = {"learned_limit": _learned(since_s=90000)}
    old = (await relay("status", "--admin", side.url)).out.splitlines()
    side.control.facts["shop-a"] = {"learned_limit": {**_learned(since_s=720), "rates": [_rate(120, 60.0, "120/min")]}}
    adopted = (await relay("status", "--admin", side.url)).out.splitlines()

    assert new[1].split("  ")[-2].strip() == "20/40 min"
    assert aged(new[3]) == 'shop-a: 40/min learned 12m ago, 86 % sure; adopt "rate: 40/min" (relay limit shop-a)'
    assert new[4] == 'shop-b: not enforced: 40/min, 86 % sure; adopt "rate: 40/min" (relay limit shop-b)'
    assert max(map(len, new[:3])) <= 80
    assert max(map(len, new)) <= 90
    assert old[3] == 'shop-a: 40/min learned, 86 % sure; adopt "rate: 40/min" (relay limit shop-a)'  # a day later
    assert not any(line.startswith("shop-a:") for line in adopted)  # under a configured 100/min


async def test_status_names_stopped_groups(side: AdminSide) -> None:
    """A platform that is ok while some of its groups are left alone says so, with the one that is longest."""
    stops = [{"group": f"shop-{n}", "reason": "429 Too Many Requests", "until": START + n} for n in (5, 9)]
    side.control.facts["shop-a"] = {"stopped_groups": stops}
    side.control.facts["shop-b"] = {"stopped_groups": stops[:1]}

    lines = (await relay("status", "--admin", side.url)).out.splitlines()

    assert lines[3].startswith("shop-a: 2 groups are stopped, longest shop-9 until 2026-09-21 22:13:29 +08:00 (")
    assert lines[3].endswith("): 429 Too Many Requests")
    assert lines[4].startswith("shop-b: group shop-5 is stopped until 2026-09-21 22:13:25 +08:00 (")


async def test_status_names_what_an_operator_holds_back(side: AdminSide) -> None:
    """Groups that are paused and orders that are held back: the platform runs, so its line alone would not show it."""
    paused = [{"group": str(n), "reason": "moving"} for n in (17, 18, 19, 20)]
    side.control.facts["shop-a"] = {"paused_groups": paused[:1]}
    side.control.facts["shop-b"] = {"paused_groups": paused}
    for key in ("991", "992"):
        await side.store.held_keys.hold("shop-b", key, "wrong address")

    lines = (await relay("status", "--admin", side.url)).out.splitlines()

    assert lines[3] == "shop-a: group 17 paused by an operator"
    assert lines[4] == "shop-b: groups 17, 18, 19 and 1 more paused by an operator; 2 ordering keys held back"


async def test_limits_are_shown_with_their_origin(side: AdminSide) -> None:
    """Each window with where it comes from, and why the learned one is believed, with the line to adopt."""
    side.control.facts["shop-a"] = {"learned_limit": _learned(since_s=720)}
    await side.limited("learned:shop-a", Rate(40, 60.0))
    await side.accept(40)
    await side.sent(40)

    shown = (await relay("limit", "shop-a", "--admin", side.url)).out.splitlines()
    nothing = (await relay("limit", "shop-b", "--admin", side.url)).out.splitlines()
    stated = {**_learned(since_s=0), "source": "declared", "since": None, "confidence": 1.0}
    side.control.facts["shop-b"] = {"learned_limit": stated}
    declared = (await relay("limit", "shop-b", "--admin", side.url)).out
    whole = (await relay("limit", "shop-a", "--admin", side.url, "-o", "json")).json()
    line = (await relay("limit", "shop-a", "--admin", side.url, "-o", "jsonl")).out

    assert [row.split() for row in shown[:3]] == [
        ["LIMIT", "FROM", "USED", "NEXT", "SLOT"],
        ["100/min", "configured", "(quota", "shop-a)", "40/100", "now"],
        ["40/min", "learned", "86", "%", "40/40", "-"],
    ]
    assert shown[3].startswith("learned   40/min, 86 % sure, since ")
    assert shown[4:7] == [
        "window    sliding",
        "because   refused 4 times after 100 requests; a window of 58.9 s was refused, one of 60 s holds",
        "counted   812 requests accepted, 9 refused",
    ]
    assert re.fullmatch(r"next try  a little more .* \(in (20m|19m\d\ds)\)", shown[7])
    assert shown[8] == "adopt     rate: 40/min (under platforms: shop-a, then: relay reload)"
    assert nothing == ["no limit holds shop-b now", "learned  nothing: learn_limit is false"]
    assert "declared  40/min\nbecause " in declared  # it holds without being adopted
    assert "adopt" not in declared
    assert set(whole) == {"name", "state", "reason", "quotas", "learned_limit"}
    assert json.loads(line) == whole


async def test_an_operator_sets_and_forgets_a_limit(side: AdminSide) -> None:
    """What holds from now on, until when and beside what; the reason reaches the relay; it is in the status."""
    command = ("limit", "shop-a", "80/min", "10/s", "--admin", side.url)
    for_two_hours = await relay(*command, "--for", "2h", "--reason", "support said so")
    status = (await relay("status", "--admin", side.url)).out
    shown = (await relay("limit", "shop-a", "--admin", side.url)).out
    for_good = await relay("limit", "shop-a", "80/min", "--admin", side.url)
    forgotten = await relay("limit", "shop-a", "--forget", "--admin", side.url, "--reason", "new contract")
    as_json = await relay("limit", "shop-a", "--forget", "--admin", side.url, "-o", "json")

    assert for_two_hours.out.startswith("shop-a: at most 10/s and 80/min until 2026-09-22 00:13:20 +08:00 (")
    assert for_two_hours.out.endswith("); the configured 100/min holds too\n")
    assert "shop-a: an operator set 10/s and 80/min until 2026-09-22 00:13:20" in status
    assert "operator  10/s and 80/min, until 2026-09-22 00:13:20" in shown
    assert "because   support said so" in shown
    assert "after it  100/min (learned, 86 % sure)" in shown
    assert for_good.out == "shop-a: at most 80/min until it is forgotten; the configured 100/min holds too\n"
    assert forgotten.out == "shop-a: forgotten; the configured 100/min holds, and limits are learned anew\n"
    assert as_json.json()["learned_limit"]["rates"] == []
    assert side.control.asked[0] == ("limit", "shop-a", "10/s", "80/min", str(START + 7200), "support said so")
    assert side.control.asked[2] == ("forget_limit", "shop-a")
    assert side.records[2]["reason"] == "new contract"


async def test_a_limit_of_a_group_is_adopted_as_a_quota(side: AdminSide) -> None:
    """Its rate as the platform's own would hold all groups together under the limit of one."""
    learned = {**_learned(since_s=720), "group": "shop-17", "groups": 3}
    side.control.facts["shop-a"] = {"learned_limit": learned}
    await side.limited("learned:shop-a/shop-17", Rate(40, 60.0))

    shown = (await relay("limit", "shop-a", "--admin", side.url)).out
    status = (await relay("status", "--admin", side.url)).out

    assert shown.splitlines()[2].split() == ["40/min", "learned", "(group", "shop-17)", "86", "%", "0/40", "now"]
    assert "learned   40/min for group shop-17, 86 % sure" in shown
    assert "groups    3 with a limit of their own; this is the lowest" in shown
    assert (
        "adopt     quotas: {shop-a-groups: {rate: 40/min, per: group}}, "
        "and under platforms: shop-a, quotas: [shop-a-groups]" in shown
    )
    told = "shop-a: 40/min learned 12m ago, 86 % sure; of group shop-17; what to adopt: relay limit shop-a"
    assert told in aged(status)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["shop-a", "80/minute"], 1, "did you mean 80/min?"),
        (["shop-a", "0/min"], 1, "relay pause"),
        (["shop-a", "80/min", "--for", "31d"], 1, "longer than 30d"),
        (["shop-a", "80/min", "70/min"], 1, "limits over the same window"),
        (["shop-q", "80/min"], 1, "did you mean 'shop-"),
        (["shop-q"], 1, "did you mean 'shop-"),
        ([], 2, "Missing argument 'PLATFORM'"),
        (["shop-a", "--for", "2h"], 2, "--for 2h needs a RATE"),
        (["shop-a", "80/min", "--forget"], 2, "--forget takes neither RATE nor --for"),
        (["shop-a", "--forget", "--for", "2h"], 2, "--forget takes neither RATE nor --for"),
        (["shop-a", "--reason", "x"], 2, "--reason belongs to a RATE or --forget"),
    ],
)
async def test_a_limit_that_cannot_be_says_why(side: AdminSide, arguments: list[str], code: int, told: str) -> None:
    """1 for what the relay refuses, 2 for wrong usage; nothing is changed."""
    ran = await relay("limit", *arguments, "--admin", side.url)

    assert (ran.code, ran.out, told in ran.err) == (code, "", True), ran.err
    assert side.control.asked == []


async def test_a_wait_is_explained_in_a_sentence(side: AdminSide) -> None:
    """For what, how sure that is, until when, how much waits beside it, and what a person can do."""
    (first,) = await side.accept(1, key="A-1")
    await side.accept(39)
    (behind,) = await side.accept(1, key="A-1")
    (last,) = await side.accept()
    await side.limited("learned:shop-a", Rate(40, 60.0))
    await side.sent(40)
    side.clock.at += 5
    until = side.clock.at + 30
    learned = _learned(since_s=720)

    async def explained(callback_id: str, **facts: Any) -> str:
        side.control.facts["shop-a"] = {"learned_limit": learned, **facts}
        ran = await relay("explain", callback_id, "--admin", side.url)
        assert ran.code == 0, ran.err
        return ran.out

    limited = await explained(last, waits_for="limit", waits_until=until)
    under_way = await explained(behind)
    held_up = await explained(last, throttled_until=until, throttle_reason="429 Too Many Requests")
    paused = await explained(last, paused=True, pause_reason="stocktaking")
    refused = {"broken": True, "breaker_reason": "connection refused", "probe_at": until}
    backing_off = await explained(last, **refused)
    probing = await explained(last, **refused, breaker_open=True)
    trying = {**learned, "trying": "40/min"}
    tried = await explained(last, waits_for="limit", waits_until=until, learned_limit=trying)
    told = (await relay("status", "--admin", side.url)).out, (await relay("limit", "shop-a", "--admin", side.url)).out
    careful = await explained(last, waits_for="concurrency", waits_until=float("inf"), learned_limit=trying)

    assert "to do  relay resume shop-a ends the stop" in held_up
    assert "to do  relay resume shop-a ends the stop" in backing_off
    assert f"{last}  pending for shop-a: it waits for a slot of the learned limit 40/min (86 % sure)\n" in limited
    assert "queue  42 are pending" in limited
    assert "limit  40/min learned: refused 4 times after 100 requests" in limited
    assert "to do  relay limit shop-a" in limited
    assert f"it goes after {first}, an earlier callback of its key; a request with it is under way\n" in under_way
    assert "shop-a asked to be left alone (429 Too Many Requests)\nuntil  2026-09-21 22:13:55 +08:00 (" in held_up
    assert "an operator paused shop-a (stocktaking)\n" in paused
    assert "to do  relay resume shop-a" in paused
    assert "shop-a could not be used (connection refused); it is tried again soon\n" in backing_off
    assert "shop-a is left alone (connection refused) until one batch probes it\n" in probing
    assert "until  2026-09-21 22:13:55 +08:00 (" in probing
    assert "as many requests as allowed are under way (one request at a time while 40/min is tried)" in careful
    assert "it waits for a slot of the limit 40/min, a step beyond the learned one that is being tried\n" in tried
    assert ", trying 40/min; adopt" in told[0]
    assert "learned trying" in told[1]


async def test_an_ended_callback_is_explained_by_itself(side: AdminSide) -> None:
    """Its last attempt with the status once; how the platform stands now has nothing to do with it."""
    (callback_id,) = await side.accept()
    await side.reject(reason="400 Bad Request")
    side.control.facts["shop-a"] = {"throttled_until": side.clock.at + 30, "throttle_reason": "429 Too Many Requests"}

    explained = (await relay("explain", callback_id, "--admin", side.url)).out

    assert explained.splitlines()[0] == (
        f"{callback_id}  dead for shop-a: it will not be tried again without a person (rejected)"
    )
    assert " reject 400 Bad Request\n" in explained
    assert "throttled" not in explained


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

    for command in (["pause", "shop-a"], ["limit", "shop-a"], ["limit", "shop-a", "1/s"], ["dead", "retry", "--yes"]):
        ran = await relay(*command, "--admin", address)

        assert (ran.code, ran.err.startswith(f"relay: daemon not reachable at {address}")) == (4, True), ran.err
    assert (await relay("pause")).code == 2
    assert (await relay("status", "-c", str(tmp_path / "none.yaml"))).code == 1
    assert (await relay("status", "-c", str(broken))).code == 1


async def test_the_configuration_is_reloaded(side: AdminSide) -> None:
    """A dry run changes nothing; platforms come and go in a line each; a bad file is exit code 1 with every problem."""
    dry = await relay("reload", "--dry-run", "--admin", side.url)
    done = await relay("reload", "--admin", side.url)
    settings = (("shop-b.url", "http://b/", None), ("shop-b.rate", "9/s", None), ("shop-d.url", None, "http://d/"))
    settings += (("shop-a.rate", "100/min", "80/min"),)
    changes = [
        ChangeView(path=f"platforms.{path}", old=old, new=new, needs_restart=False) for path, old, new in settings
    ]
    side.config.changes = {"changes": changes, "added": ["shop-d"], "removed": {"shop-b": 2807, "shop-c": 0}}
    planned = await relay("reload", "--dry-run", "--admin", side.url)
    forced = await relay("reload", "--force", "--admin", side.url)
    side.config.problems = ["relay.yaml:3:1: E010 unknown key"]
    bad = await relay("reload", "--admin", side.url)

    assert (dry.code, dry.out) == (0, "0 changes; nothing was done\n")
    assert (done.code, done.out) == (0, "0 changes\n")
    assert forced.out.splitlines() == [
        "+ platforms.shop-d",
        "- platforms.shop-b (2807 callbacks pending)",
        "- platforms.shop-c",
        "~ platforms.shop-a.rate 100/min -> 80/min",
        "4 changes",
    ]
    assert planned.out.splitlines()[-1] == "4 changes; nothing was done"
    assert [asked[:2] for asked in side.config.reloads] == [
        (True, False),
        (False, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert (bad.code, bad.err.splitlines()[0]) == (1, "relay.yaml:3:1: E010 unknown key")


async def test_a_dead_letter_is_explained_with_what_can_be_done(side: AdminSide) -> None:
    """It can be sent again, until its payload is dropped: then explain says that, and advises nothing in vain."""
    (dead,) = await side.accept()
    await side.bury([dead])
    before = await relay("explain", dead, "--admin", side.url)
    await side.bury([dead])
    after = await relay("explain", dead, "--admin", side.url)
    told = await relay("explain", dead, "--admin", side.url, "-o", "json")

    assert before.out.splitlines() == [
        f"{dead}  dead for shop-a: it will not be tried again without a person (dropped)",
        f"to do  relay dead retry {dead}",
    ]
    assert after.out.splitlines() == [
        f"{dead}  dead for shop-a: its payload was deleted, it cannot be sent again (dropped)"
    ]
    assert told.json()["next"] == ""


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
    assert lines[1].split()[:5] == ["shop-b", "unknown", "-", "-", "0"]
    assert lines[2].split()[:5] == ["shop-a", "unknown", "-", "-", "2"]
    assert lines[-2] == "LEDGER  2 in = 0 delivered + 2 pending + 0 dead + 0 unaccounted"
    assert [item["id"] for item in listed.json()["items"]] == ids[:1]
    assert shown.json()["payload"] == {"phone": "138****5678"}
    assert shown.json()["waiting"] == {"for": "the daemon to run", "until": None}
    assert dead.json() == {"items": [], "next": None}
    assert (typo.code, "'since'" in typo.err) == (1, True)
    assert (changed.code, changed.out) == (4, "")
    assert (empty.code, "r.db does not exist" in empty.err) == (4, True)
    assert (other.code, other.out) == (4, "")


async def test_a_store_whose_clock_was_set_later(tmp_path: Path) -> None:
    """Its daemon began 8 hours behind: read without it, times are still the wall clock's of now."""
    config = tmp_path / "relay.yaml"
    config.write_text(f"admin: {{listen: 'unix:{tmp_path}/a'}}\nstore: {{url: sqlite:r.db}}\nplatforms: {{}}\n")
    store = await SqliteStore.open(tmp_path / "r.db")
    await store.close()
    with apsw.Connection(str(tmp_path / "r.db")) as connection:
        connection.execute("UPDATE meta SET value = value - 28800 WHERE name IN ('offset_s', 'last_at')")
    connection.close()
    store = await SqliteStore.open(tmp_path / "r.db")
    row = NewCallback("shop-a", b"{}", "A-1", None, Lane.NORMAL, 3600.0, None, None, None, "")
    (one,) = (await store.accept([row])).ids
    assert wall_s() - store.clock.now() > 28000
    await store.close()

    listed = await relay("ls", "-c", str(config), "--since", "5m", "-o", "json")
    shown = await relay("show", one, "-c", str(config), "-o", "json")
    status = await relay("status", "-c", str(config), "-o", "json")

    (item,) = listed.json()["items"]
    for found in (item, shown.json()):
        assert abs(datetime.fromisoformat(found["accepted_at"]).timestamp() - wall_s()) < 60
        assert abs(datetime.fromisoformat(found["expires_at"]).timestamp() - wall_s() - 3600) < 60
    assert 0 <= status.json()["platforms"][0]["oldest_due_seconds"] < 60


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
        later = ("--not-before", "30m", "--reference", "PO 77")
        one = await relay(
            "send", "shop-a", "--ingest", url, "--key", "订单-7", "--event", "order.paid", *later, stdin=b'{"n": 1}'
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
    assert (headers["Relay-Not-Before"], headers["Relay-Reference"]) == ("30m", "PO 77")
    assert seen[1][1]["Authorization"] == "Bearer t"
