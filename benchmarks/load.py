"""Posts one callback at a time over many connections: with `wrk`, or with our own client where it is missing."""

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import BenchmarkFailed, module

CONNECTIONS = 64
_LUA = """
local number = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local rest = '","status":"paid","shop":"shop-a","note":"' .. string.rep("packed and handed over; ", 14) .. '"}'
request = function()
  number = number + 1
  return wrk.format(nil, nil, nil, '{"order_id":"o' .. string.format("%011d", number) .. rest)
end
"""


def tool() -> str:
    """Return what posts, in words."""
    if shutil.which("wrk"):
        return f"wrk -t1 -c{CONNECTIONS}, 400 B"
    return (
        f"benchmarks.client, {CONNECTIONS} connections, 400 B (wrk is missing: this client is slower, compare the CPU)"
    )


def post_rate(url: str, directory: Path, *, seconds: float) -> float:
    """Return the answers per second. Raises ``BenchmarkFailed`` when one was an error or not a 2xx."""
    if shutil.which("wrk") is None:
        options = ("--connections", str(CONNECTIONS), "--seconds", str(seconds))
        with module("client", "closed", url, *options) as client:
            told = client.result(seconds + 30)
        if told["failed"]:
            raise BenchmarkFailed(f"{url}: {told}")
        return float(told["accepted"] / (told["ended_at"] - told["began_at"]))
    script = directory / "post.lua"
    script.write_text(_LUA)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(script), url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    rate = re.search(r"Requests/sec: +([0-9.]+)", shown)
    if rate is None or "Non-2xx" in shown or "Socket errors" in shown:
        raise BenchmarkFailed(f"{url}:\n{shown}")
    return float(rate[1])


def callbacks_url(bare: str) -> str:
    """Return where the bare handler or a peer takes callbacks."""
    return bare + "/v1/platforms/p/callbacks"


def rates_text(rates: list[float]) -> str:
    """Write rates one after the other."""
    return ", ".join(f"{rate:,.0f}" for rate in rates)
