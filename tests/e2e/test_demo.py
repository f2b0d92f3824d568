"""``relay demo`` as a newcomer runs it."""

import asyncio
import sys

import pytest


@pytest.mark.timeout(90)
async def test_the_demo_shows_its_claims_and_succeeds() -> None:
    """It ends with exit code 0 within its half minute, every claim holds, and the kill really happened."""
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
