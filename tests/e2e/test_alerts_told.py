"""Alerts of a real daemon: told once that a platform is down, also over a kill -9; drills have exit codes."""

import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from relay.standin.ports import free_port
from tests import warm_start
from tests.e2e.harness import Process, until

pytestmark = pytest.mark.timeout(120)


async def command(*arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and all it said."""
    ran = await warm_start.run(*arguments)
    return ran.code, ran.out + ran.err


async def test_a_robot_is_told_once_also_over_a_kill(tmp_path: Path) -> None:
    """Down, told, killed, started again, not told again; a drill arrives (0) or is refused in a 200 (1)."""
    told: list[Any] = []

    async def robot(request: web.Request) -> web.Response:
        if request.path == "/deaf":
            return web.json_response({"errcode": 93000, "errmsg": "invalid webhook url"})
        told.append(json.loads(await request.read()))
        return web.json_response({"errcode": 0})

    app = web.Application()
    app.router.add_post("/{path:.*}", robot)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there = f"http://127.0.0.1:{runner.addresses[0][1]}"
    port, down = free_port(), free_port()
    settings = {
        "version": 1,
        "ingest": {"listen": f"127.0.0.1:{free_port()}"},
        "admin": {"listen": f"127.0.0.1:{port}"},
        "platforms": {"shop-a": {"url": f"http://127.0.0.1:{down}/", "breaker": {"open_after": 1}}},
        "alerts": {
            "targets": {
                "ops": {"kind": "wecom", "url": f"{there}/ops", "lang": "en"},
                "deaf": {"kind": "wecom", "url": f"{there}/deaf"},
            },
            "default_to": ["ops"],
            "rules": {"broken": {"after": "0s"}},
        },
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    admin = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{admin}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def alerts() -> list[Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{admin}/v1/alerts") as response:
            items: list[Any] = (await response.json())["items"]
            return items

    async def kept() -> bool:
        file = tmp_path / "relay.db.alerts"
        return file.exists() and any(alert["told_at"] for alert in json.loads(file.read_bytes())["alerts"])

    async def fires() -> bool:
        return any(each["rule"] == "broken" and each["status"] == "firing" for each in await alerts())

    daemon = Process(tmp_path / "log", "run", "-c", str(file))
    await daemon.start()
    try:
        await until(ready, timeout_s=30, what="ready")
        (tmp_path / "callback").write_text('{"order_id": 1}')
        assert (await command("send", "shop-a", str(tmp_path / "callback"), "-c", str(file)))[0] == 0
        await until(kept, timeout_s=40, what="told, and kept")
        (message,) = told
        assert message["text"]["content"].startswith("[ALERT] shop-a is down or refuses everything")

        await daemon.signal(signal.SIGKILL)
        await daemon.start()
        await until(ready, timeout_s=30, what="ready again")
        await until(fires, timeout_s=40, what="fires again")
        code, said = await command("alert", "test", "ops", "-c", str(file))
        assert (code, said) == (0, "ops took the drill (status 200)\n")
        assert ["DRILL" in each["text"]["content"] for each in told] == [False, True], "told twice"

        code, said = await command("alert", "test", "deaf", "-c", str(file))
        assert code == 1
        assert "errcode=93000" in said
        assert "invalid webhook url" in said
        code, said = await command("alerts", "-c", str(file))
        assert code == 0
        assert "firing broken shop-a" in said
        assert "deaf (wecom): last message failed: errcode=93000" in said
    finally:
        await daemon.signal(signal.SIGKILL)
        await runner.cleanup()
