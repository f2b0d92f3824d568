"""``relay demo`` as a newcomer runs it."""

import asyncio
import re
import signal
import sys

import aiohttp
import pytest


@pytest.mark.timeout(120)
async def test_the_demo_shows_its_claims_and_can_be_kept() -> None:
    """Once to its end and once with --keep, side by side: both mostly wait, each for the same half minute."""
    await asyncio.gather(
        _shows_its_claims_and_succeeds(), _keeps_everything_running_until_ctrl_c(), _finds_and_repairs_differences()
    )


async def _shows_its_claims_and_succeeds() -> None:
    """It ends with exit code 0, every claim holds, and the kill really happened."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "demo", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 80)
    text = output.decode()
    assert process.returncode == 0, text
    for fact in ("kill -9", "restart", "callbacks in", "callbacks delivered", "peak in any 60 s", "duplicates"):
        assert fact in text
    assert "FAIL" not in text
    facts = {line[7:27].strip(): line[27:].split()[0] for line in text.splitlines() if line.startswith("  ok")}
    assert (facts["callbacks in"], facts["callbacks delivered"]) == ("3,000", "3,000")
    assert (facts["order violations"], facts["unaccounted"], facts["turned away"]) == ("0", "0", "0")


async def _finds_and_repairs_differences() -> None:
    """With --reconcile twenty planted differences are found, none is invented, and what can be repaired is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "demo", "--reconcile"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 110)
    text = output.decode()
    assert process.returncode == 0, text
    facts = {line[7:27].strip(): line[27:].split()[0] for line in text.splitlines() if line.startswith("  ok")}
    assert (facts["found"], facts["invented"], facts["repaired"]) == ("20", "0", "6")


async def _keeps_everything_running_until_ctrl_c() -> None:
    """With --keep the addresses are printed and answer; Ctrl-C ends all of it with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "demo", "--keep", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    urls: dict[str, str] = {}
    while "log" not in urls:
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        assert line, "the demo ended before it printed its addresses"
        if match := re.fullmatch(r"  (\w+) +(\S.*)\n", line):
            urls[match[1]] = match[2]
    async with aiohttp.ClientSession() as http:
        async with http.get(urls["ledger"]) as response:
            assert (await response.json())["total"]["delivered"] == 3000
        async with http.get(urls["platform"]) as response:
            assert (await response.json())["distinct"] == 3000
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 0
