"""``relay demo`` as a newcomer runs it."""

import asyncio
import re
import signal
import sys

import aiohttp
import pytest


@pytest.mark.timeout(300)
async def test_the_demo_shows_its_claims_and_can_be_kept() -> None:
    """Once with --keep and once with --reconcile, side by side: both mostly wait, each for the same half minute."""
    await asyncio.gather(_shows_its_claims_and_keeps_everything_running(), _finds_and_repairs_differences())


async def _shows_its_claims_and_keeps_everything_running() -> None:
    """Every claim holds, the kill really happened, the addresses answer; Ctrl-C ends all of it with exit code 0."""
    process = await _demo("--keep")
    assert process.stdout is not None
    lines: list[str] = []
    urls: dict[str, str] = {}
    while "log" not in urls:
        lines.append((await asyncio.wait_for(process.stdout.readline(), 200)).decode())
        assert lines[-1], "".join(lines)
        if match := re.fullmatch(r"  (\w+) +(\S.*)\n", lines[-1]):
            urls[match[1]] = match[2]
    text = "".join(lines)
    for fact in ("kill -9", "restart", "callbacks in", "callbacks delivered", "peak in any 60 s", "duplicates"):
        assert fact in text
    assert "FAIL" not in text
    facts = _facts(text)
    assert (facts["callbacks in"], facts["callbacks delivered"]) == ("3,000", "3,000")
    assert (facts["order violations"], facts["unaccounted"], facts["turned away"]) == ("0", "0", "0")
    async with aiohttp.ClientSession() as http:
        async with http.get(urls["ledger"]) as response:
            assert (await response.json())["total"]["delivered"] == 3000
        async with http.get(urls["platform"]) as response:
            assert (await response.json())["distinct"] == 3000
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def _finds_and_repairs_differences() -> None:
    """Twenty planted differences are found, none is invented, what can be repaired is; then it ends by itself."""
    process = await _demo("--reconcile")
    output, _ = await asyncio.wait_for(process.communicate(), 240)
    text = output.decode()
    assert process.returncode == 0, text
    facts = _facts(text)
    assert (facts["found"], facts["invented"], facts["repaired"]) == ("20", "0", "6")


def _facts(text: str) -> dict[str, str]:
    return {line[7:27].strip(): line[27:].split()[0] for line in text.splitlines() if line.startswith("  ok")}


async def _demo(option: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "demo", option),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
