"""What people did, as the admin API and the command line list it."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from relay.admin.access import Caller
from relay.admin.audit import deed
from relay.cli.commands.trace import audit, journal
from relay.cli.support.locate import Place
from relay.core.clock import wall_s
from relay.core.model import Filter
from relay.store.sqlite.backend import SqliteStore
from relay.views.moments import read
from relay.views.operation_view import OperationOptions
from tests import warm_start
from tests.integration.admin_side import USERS, AdminSide, admin_side


async def _call(side: AdminSide, path: str, *, body: Any = None, user: str = "operator", **query: str) -> Any:
    headers = {"Authorization": f"Bearer {user}-token"}
    method = "GET" if body is None else "POST"
    async with (
        aiohttp.ClientSession(side.url, headers=headers) as session,
        session.request(method, path, json=body, params=query) as response,
    ):
        return response.status, await response.json(content_type=None)


async def test_audit_is_a_list() -> None:
    """Who did what, from where and why; page by page, with the filters of people who look for one deed."""
    async with admin_side(users=USERS) as side:
        for name, user in (("shop-a", "operator"), ("shop-b", "admin"), ("shop-a", "admin")):
            await _call(side, f"/v1/platforms/{name}/pause", body={"reason": "sale"}, user=user)
            side.clock.at += 60
        status, page = await _call(side, "/v1/audit", user="viewer", limit="2")
        assert (status, [each["target"] for each in page["items"]]) == (200, ["shop-a", "shop-b"])
        assert page["items"][0] == {
            "id": 3, "at": "2026-09-21T14:15:20.000Z", "who": "admin", "role": "admin", "from": "127.0.0.1",
            "action": "platform.pause", "target": "shop-a", "reason": "sale", "details": {},
        }  # fmt: skip
        _, rest = await _call(side, "/v1/audit", limit="2", cursor=page["next"])
        assert ([each["id"] for each in rest["items"]], rest["next"]) == ([1], None)
        _, found = await _call(side, "/v1/audit", who="admin", target="shop-b")
        assert [each["id"] for each in found["items"]] == [2]
        _, found = await _call(side, "/v1/audit", since="61s")
        assert [each["id"] for each in found["items"]] == [3]
        for query in ({"whom": "admin"}, {"who": ""}, {"since": "soon"}, {"limit": "0"}):
            status, problem = await _call(side, "/v1/audit", **query)
            assert (status, problem["code"], [problem["key"]]) == (400, "invalid_filter", list(query))
        status, problem = await _call(side, "/v1/audit", cursor=page["next"])
        assert status == 200  # of the same list, whatever the size of its pages
        status, problem = await _call(side, "/v1/audit", cursor=page["next"], who="admin")
        assert (status, problem["code"]) == (400, "invalid_cursor")


async def test_operations_are_a_list() -> None:
    """All operations, newest first, those that are done too."""
    async with admin_side(users=USERS) as side:
        await side.accept(2)
        for action, platform in (("expire", "shop-a"), ("drop", "shop-b")):
            body = {"action": action, "filter": {"platform": platform}, "reason": "sale"}
            status, started = await _call(side, "/v1/operations", body=body)
            assert status == 202, started
        await side.store.step_operation(1, 10)
        _, page = await _call(side, "/v1/operations", limit="1")
        assert [each["action"] for each in page["items"]] == ["drop"]
        _, rest = await _call(side, "/v1/operations", limit="1", cursor=page["next"])
        assert [(each["action"], each["state"], each["done"]) for each in rest["items"]] == [("expire", "done", 2)]
        _, found = await _call(side, "/v1/operations", state="done", platform="shop-a", who="operator")
        assert [each["id"] for each in found["items"]] == [1]
        for query in ({"state": "over"}, {"action": "drip"}, {"plattform": "shop-a"}):
            status, problem = await _call(side, "/v1/operations", **query)
            assert (status, problem["code"], [problem["key"]]) == (400, "invalid_filter", list(query))
        assert (await _call(side, "/v1/operations", platform="shop-x"))[0] == 404


class _Daemon:
    """Answers as the admin listener does, two pages long."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str) -> Any:
        """It is there."""
        return {}

    def view(self, kind: type[Any], path: str, query: dict[str, Any] | None = None) -> Any:
        self.asked.append({"path": path, **(query or {})})
        at = "2026-11-29T10:00:00Z"
        record = {"id": len(self.asked), "at": at, "who": "ann", "role": "operator", "from": "10.0.0.7", "details": {}}
        record |= {"action": "platform.pause", "target": "shop-a", "reason": "a sale that lasts until Monday"}
        operation = {"id": 7, "action": "retry", "state": "done", "matched": 214, "done": 212, "waiting": 0}
        operation |= {"skipped": {"overtaken": 2}, "failed": ["a"], "started_at": at, "finished_at": at}
        operation |= {"filter": {"platform": "shop-a"}, "options": {"who": "ann"}}
        if path == "/v1/operations/7":
            return read(kind, operation)
        item = record if path == "/v1/audit" else operation
        return read(kind, {"items": [item], "next": "c" if len(self.asked) == 1 else None})


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> _Daemon:
    """A daemon that every command reaches."""
    made = _Daemon()
    monkeypatch.setattr(Place, "admin_client", lambda _place: made)
    return made


def _run(command: Any, *given: str) -> str:
    done = CliRunner().invoke(command, [*given, "--admin", "127.0.0.1:9"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80 or "json" in given
    return done.output


def test_audit_ls(daemon: _Daemon) -> None:
    """The records of as many pages as are asked for, in 80 columns."""
    shown = _run(audit.audit, "ls", "--who", "ann")
    assert shown.count("platform.pause") == 2
    assert daemon.asked == [
        {"path": "/v1/audit", "who": "ann", "cursor": None, "limit": 50},
        {"path": "/v1/audit", "who": "ann", "cursor": "c", "limit": 49},
    ]


def test_operations(daemon: _Daemon) -> None:
    """A list, or one in full."""
    lines = _run(journal.operations, "--state", "done", "--limit", "1").splitlines()
    assert "214" in lines[1]
    assert "there are more" in lines[-1]
    assert json.loads(_run(journal.operations, "7", "-o", "json"))["skipped"] == {"overtaken": 2}
    assert "overtaken" in _run(journal.operations, "7")


async def test_deeds_are_read_from_the_file_when_the_daemon_is_down(tmp_path: Path) -> None:
    """Who did what can be looked up while nothing runs: lists, filters and one operation, as the daemon tells them."""
    config = tmp_path / "relay.yaml"
    config.write_text(f"admin: {{listen: 'unix:{tmp_path}/a'}}\nstore: {{url: sqlite:r.db}}\nplatforms: {{}}\n")
    store = await SqliteStore.open(tmp_path / "r.db")
    for name in ("ann", "bob"):
        record = deed(
            wall_s(), Caller(name, "operator", "10.0.0.7", frozenset()), "operation.retry", "shop-a", reason=""
        )
        options = OperationOptions(who=name)
        wanted = Filter(platform="shop-a")
        await store.start_operation("retry", wanted, options=options, expect_count=None, deed=record)
    await store.close()

    async def told(*command: str) -> Any:
        ran = await warm_start.run(*command, "-c", str(config), "-o", "json")
        assert (ran.code, "reading r.db directly" in ran.err) == (0, True), ran.err
        return ran.json()

    audits = await told("audit", "ls", "--since", "1h")
    first = await told("audit", "ls", "--limit", "1")
    rest = await told("audit", "ls", "--limit", "1", "--cursor", first["next"])
    bobs = await told("operations", "--who", "bob")
    one = await told("operations", "1")
    nothing = await warm_start.run("operations", "3", "-c", str(config))
    typo = await warm_start.run("audit", "ls", "--since", "soon", "-c", str(config))

    assert [(each["who"], each["from"], each["action"]) for each in audits["items"]] == [
        ("bob", "10.0.0.7", "operation.retry"),
        ("ann", "10.0.0.7", "operation.retry"),
    ]
    assert first["items"] + rest["items"] == audits["items"]
    assert [(each["id"], each["options"]["who"]) for each in bobs["items"]] == [(2, "bob")]
    assert (one["id"], one["filter"], one["state"]) == (1, {"platform": "shop-a"}, "done")
    assert (nothing.code, "no operation '3'" in nothing.err) == (1, True)
    assert (typo.code, "'since' is 'soon'" in typo.err) == (1, True)
