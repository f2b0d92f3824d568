"""The platform stand-in over real sockets: what it takes, what it answers, what it writes down."""

import asyncio
import errno
import gzip
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backports import zstd
from click.testing import CliRunner
from relay.cli.commands.trying.sandbox import sandbox
from relay.standin.bodies import digest
from relay.standin.platform import Platform
from relay.standin.settings import Settings

Start = Callable[..., Awaitable[Platform]]
ITEMS = [b'{"order": %d, "status": "paid" }' % number for number in range(5)]
ARRAY = b"[" + b", ".join(ITEMS) + b"]"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client whose requests end."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start platforms whose settings are words; their log is ``log.jsonl``."""
    started: list[Platform] = []

    async def begin(paths: dict[str, dict[str, Any]] | None = None, seed: int = 1, **words: Any) -> Platform:
        platform = Platform(
            settings=Settings().changed(words),
            paths={path: Settings().changed(own) for path, own in (paths or {}).items()},
            control_port=0,
            seed=seed,
            log=tmp_path / "log.jsonl",
        )
        await platform.start()
        started.append(platform)
        return platform

    yield begin
    for platform in started:
        await platform.close()


def arrivals(platform: Platform) -> list[dict[str, Any]]:
    """Return what the platform has written down."""
    return [json.loads(line) for line in platform.log.since(0)]


async def post(http: aiohttp.ClientSession, platform: Platform, body: bytes = ARRAY, **headers: str) -> tuple[int, str]:
    """Post a body; ``_`` in header names stands for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.post(f"{platform.url}/callbacks", data=body, headers=named) as response:
        return response.status, await response.text()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (ARRAY, {"Content_Type": "application/json"}),
        (gzip.compress(ARRAY), {"Content_Encoding": "gzip"}),
        (zstd.compress(ARRAY), {"Content_Encoding": "zstd"}),
        (b"\n".join(ITEMS) + b"\n", {"Content_Type": "application/x-ndjson"}),
    ],
    ids=["array", "gzip", "zstd", "ndjson"],
)
async def test_a_batch_is_taken_apart_byte_for_byte(
    start: Start, http: aiohttp.ClientSession, body: bytes, headers: dict[str, str]
) -> None:
    """Whatever the shape and coding, the log names every payload by the digest of its own bytes."""
    platform = await start()
    assert (await post(http, platform, body, Idempotency_Key="b1", Relay_Attempt="2", **headers))[0] == 200
    (arrival,) = arrivals(platform)
    assert arrival["items"] == [digest(item) for item in ITEMS]
    assert (arrival["batch"], arrival["attempt"], arrival["count"]) == ("b1", "2", 5)
    assert (arrival["wire"], arrival["applied"], arrival["answer"]) == (len(body), True, "200")


async def test_a_single_body_and_a_list_inside_an_object(start: Start, http: aiohttp.ClientSession) -> None:
    """One object is one callback, unless the list's place in it is configured; a field can name the callbacks."""
    platform = await start(id_field="order")
    await post(http, platform, ITEMS[3])
    platform.change({"items_at": "data.items"})
    await post(http, platform, b'{"data": {"items": ' + ARRAY + b"}}")
    single, listed = arrivals(platform)
    assert (single["items"], single["ids"]) == ([digest(ITEMS[3])], [3])
    assert (listed["items"], listed["ids"]) == ([digest(item) for item in ITEMS], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("over", "status", "retry_after"),
    [("429", 429, None), ("429+retry-after", 429, "60"), ("408", 408, None), ("200+errcode", 200, None)],
)
async def test_above_the_limit_it_answers_as_told(
    start: Start, http: aiohttp.ClientSession, over: str, status: int, retry_after: str | None
) -> None:
    """The request above the limit draws the configured answer and is not applied."""
    platform = await start(limit=["2/min", "bucket:50/s"], over=over)
    for _ in range(2):
        assert (await post(http, platform))[0] == 200
    async with http.post(f"{platform.url}/x", data=ARRAY) as response:
        assert (response.status, response.headers.get("Retry-After")) == (status, retry_after)
        body = await response.text()
    assert ("45011" in body) == (over == "200+errcode")
    last = arrivals(platform)[-1]
    assert (last["applied"], last["limited"], last["count"]) == (False, True, 5)
    assert platform.stats()["rejected"] == 1


async def test_above_a_limit_on_what_requests_carry(start: Start, http: aiohttp.ClientSession) -> None:
    """Callbacks, bytes as they come and points count; the figures say the most asked for; a change begins anew."""
    platform = await start(items="9/min", bytes="1KiB/min", points="100/h", cost="order", over="429+retry-after")
    assert [(await post(http, platform))[0] for _ in range(2)] == [200, 429]
    (_, over) = arrivals(platform)
    assert (over["limited"], over["applied"], over["answer"]) == (True, False, "429+retry-after")
    figures = platform.stats()
    assert (figures["rejected"], figures["callbacks"]) == (1, 5)
    assert figures["most"] == {"9 items/min": 10, "1024 bytes/min": 2 * len(ARRAY), "100 points/h": 22}
    platform.change({"items": "5/min"})
    assert (await post(http, platform))[0] == 200


async def test_a_personality_counts_what_requests_carry(start: Start, http: aiohttp.ClientSession) -> None:
    """A shop that takes batches counts their entries, and answers above a limit in its own words."""
    platform = await start(personality="woocommerce-batch", items="3/min")
    body = json.dumps({"update": [{"id": n, "status": "completed"} for n in range(2)]}).encode()
    login = aiohttp.encode_basic_auth("sandbox-app", "sandbox-secret")
    assert [(await post(http, platform, body, Authorization=login))[0] for _ in range(2)] == [200, 429]
    figures = platform.stats()
    assert (figures["rejected"], figures["most"]) == (1, {"3 items/min": 4})
    assert figures["personality"]["over"] == 1


async def test_refused_above_the_limit_is_connection_refused_until_a_slot_is_free(
    start: Start, http: aiohttp.ClientSession
) -> None:
    """A used-up limit shuts the door: new connections meet ECONNREFUSED, then it opens by itself."""
    platform = await start(limit="2/2s", over="refuse")
    assert [(await post(http, platform))[0] for _ in range(2)] == [200, 200]
    with pytest.raises(aiohttp.ClientConnectorError) as refused:
        await post(http, platform)
    assert refused.value.errno == errno.ECONNREFUSED

    async def opened() -> None:
        while True:
            try:
                await post(http, platform)
                return
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)

    await asyncio.wait_for(opened(), 30)
    times = [arrival["at"] for arrival in arrivals(platform)]
    assert times[2] - times[0] >= 2.0


async def test_faults_break_the_answer_in_their_own_way(start: Start, http: aiohttp.ClientSession) -> None:
    """Reset, truncate and hang each look like it to the client; the log says what was applied."""
    platform = await start(fault=["apply-then-reset:1"])
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await post(http, platform)
    platform.change({"fault": ["truncate:1"]})
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(http, platform)
    platform.change({"fault": "hang:1"})
    hanging = asyncio.create_task(post(http, platform))
    await asyncio.wait_for(until(lambda: platform.stats()["open"] == 1), 20)
    await asyncio.wait([hanging], timeout=0.1)
    assert not hanging.done()
    hanging.cancel()
    platform.change({"fault": "503+retry-after:1", "retry_after": "7s"})
    async with http.post(f"{platform.url}/x", data=ARRAY) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
    logged = [(arrival["answer"], arrival["applied"]) for arrival in arrivals(platform)]
    assert logged == [("apply-then-reset", True), ("truncate", True), ("hang", False), ("503+retry-after", False)]


async def test_a_seed_repeats_the_faults(start: Start, http: aiohttp.ClientSession) -> None:
    """Two platforms with one seed answer the same sequence; another seed another one."""

    async def answers(seed: int) -> list[int]:
        platform = await start(fault=["500:0.3", "404:0.2"], seed=seed)
        return [(await post(http, platform))[0] for _ in range(60)]

    first = await answers(7)
    assert first == await answers(7)
    assert first != await answers(8)
    assert {200, 500, 404} == set(first)


async def test_an_outage_is_switched_while_it_runs(start: Start, http: aiohttp.ClientSession) -> None:
    """The control address works while the platform refuses connections, and ends the outage."""
    platform = await start()
    assert (await post(http, platform))[0] == 200

    async def outage(word: str | None) -> int:
        async with http.post(f"{platform.control_url}/settings", json={"outage": word}) as response:
            return response.status

    assert await outage("refuse") == 200
    with pytest.raises(aiohttp.ClientError):
        await post(http, platform)
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(http, platform)
    assert await outage("503") == 200
    assert (await post(http, platform))[0] == 503
    assert await outage(None) == 200
    assert (await post(http, platform))[0] == 200
    assert await outage("sulk") == 400
    async with http.get(f"{platform.control_url}/stats") as response:
        assert (await response.json())["answers"] == {"200": 2, "503": 1}
    async with http.get(f"{platform.control_url}/log", params={"since": "2"}) as response:
        assert [json.loads(line)["n"] for line in (await response.text()).splitlines()] == [3]


async def test_bodies_are_refused_for_what_they_are(start: Start, http: aiohttp.ClientSession) -> None:
    """A poison item, a coding not taken, a body too large or broken: 400, 415, 413, none of them applied."""
    platform = await start(accept="none", max_bytes="1KiB")
    assert (await post(http, platform, b'[{"a": 1}, {"poison": true}]'))[0] == 400
    assert (await post(http, platform, b'[{"a": "poison"}, {"poison": false}]'))[0] == 200
    assert (await post(http, platform, gzip.compress(ARRAY), Content_Encoding="gzip"))[0] == 415
    assert (await post(http, platform, b"[" + b",".join(ITEMS * 40) + b"]"))[0] == 413
    assert (await post(http, platform, b'[{"a": 1}'))[0] == 400
    assert (await post(http, platform, b"x", Content_Encoding="br"))[0] == 415
    assert [arrival["applied"] for arrival in arrivals(platform)] == [False, True, False, False, False, False]
    assert [arrival["count"] for arrival in arrivals(platform)] == [2, 2, 5, 200, 0, 0]


async def test_paths_have_their_own_behaviour(start: Start, http: aiohttp.ClientSession) -> None:
    """One path's limit leaves the others alone, and figures are kept apart."""
    platform = await start(paths={"/b": {"limit": "1/min"}})

    async def status(path: str) -> int:
        async with http.post(platform.url + path, data=ARRAY) as response:
            return response.status

    assert [await status(path) for path in ("/b", "/b", "/a", "/c")] == [200, 429, 200, 200]
    figures = platform.stats()
    assert (figures["requests"], figures["paths"]["/b"]["requests"]) == (2, 2)


async def test_figures_count_duplicates_peaks_and_open_requests(start: Start, http: aiohttp.ClientSession) -> None:
    """Applied again is a duplicate, the peak is the most arrivals of any window, latency keeps requests open."""
    platform = await start(limit="100/min", latency="400ms..450ms")
    await asyncio.gather(*(post(http, platform) for _ in range(4)))
    await asyncio.wait_for(until(lambda: platform.stats()["open"] == 0), 20)
    figures = platform.stats()
    assert (figures["callbacks"], figures["distinct"], figures["duplicates"]) == (20, 5, 15)
    assert figures["peaks"] == {"1": 4, "60": 4}
    assert (figures["peak_open"], figures["open"]) == (4, 0)
    assert all(0.4 <= arrival["delay"] <= 0.45 for arrival in arrivals(platform))


async def test_a_request_cut_off_midway_is_an_arrival_too(start: Start) -> None:
    """Headers and half a body count as a request that was not applied."""
    platform = await start()
    _, writer = await asyncio.open_connection("127.0.0.1", platform.listener.port)
    writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[")
    await writer.drain()

    await asyncio.wait_for(until(lambda: platform.stats()["open"] == 1), 20)
    writer.close()
    await asyncio.wait_for(until(lambda: platform.stats()["open"] == 0), 20)
    (arrival,) = arrivals(platform)
    assert (arrival["answer"], arrival["applied"]) == ("cut", False)


async def test_the_log_file_holds_every_arrival(start: Start, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Lines are written in batches, and closing leaves none behind."""
    platform = await start()
    for _ in range(20):
        await post(http, platform)
    await platform.close()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(1, 21))


async def test_the_command_serves_until_told_to_end(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """``relay sandbox`` says where it listens, takes batches, and ends on SIGTERM with its figures."""
    arguments = ["--listen", "127.0.0.1:0", "--limit", "2/min", "--path", "/b over=408 limit=1/min", "--seed", "1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "sandbox", *arguments, "--log", str(tmp_path / "a.jsonl"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    said = (await asyncio.wait_for(process.stdout.readline(), 90)).decode()
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    statuses = []
    for path in ("/a", "/a", "/a", "/b", "/b"):
        async with http.post(url[0] + path, data=ARRAY) as response:
            statuses.append(response.status)
    assert statuses == [200, 200, 429, 200, 408]
    process.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    assert "*: 3 requests, 2 accepted, 1 above the limit; 10 callbacks, 5 distinct, 5 duplicates" in output.decode()
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "100"], "write 100/s or 100/min"),
        (["--listen", "8790"], "write HOST:PORT"),
        (["--path", "b limit=1/s"], "write the path first"),
        (["--fault", "500"], "write 500:0.05"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], message: str) -> None:
    """A mistake ends with exit code 2 and what to write instead."""
    result = CliRunner().invoke(sandbox, arguments)
    assert (result.exit_code, message in result.output) == (2, True), result.output


def test_the_command_names_the_address_it_cannot_have() -> None:
    """Of two addresses the one that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(sandbox, ["--listen", "127.0.0.1:0", "--control", f"127.0.0.1:{port}"])

    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; end the sandbox that may" in result.output
