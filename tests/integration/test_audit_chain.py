"""The chain of audit records over the API and by command: exported, checked, and its head told."""

import json
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from relay.cli.main import run
from relay.privacy.chain import read_lines, verify
from relay.store.sqlite.backend import SqliteStore
from tests.clocks import FakeClock
from tests.integration.admin_side import USERS, admin_side
from tests.integration.test_journal import _call

DEED = {"at": "2026-11-29T10:00:00.000Z", "who": "李", "role": "operator", "from": "unix", "reason": "", "details": {}}


async def test_the_head_and_the_chain_are_told() -> None:
    """The head counts all records and has the newest hash; the chain's lines check by what an answer holds alone."""
    async with admin_side(users=USERS) as side:
        for action in ("pause", "resume", "pause"):
            await side.store.audit({**DEED, "action": f"platform.{action}", "target": "shop-a"})
        _, head = await _call(side, "/v1/audit/head")
        _, page = await _call(side, "/v1/audit/chain", limit="2")
        _, rest = await _call(side, "/v1/audit/chain", after="2")
        lines = [json.dumps(each) for each in (*page["items"], *rest["items"])]
        assert [each["n"] for each in page["items"]] == [1, 2]
        verdict = verify(read_lines(lines), head=head["hash"])
        assert (verdict.last, verdict.hash, verdict.fault) == (head["count"], head["hash"], None)
        assert head["at"] == "2026-09-21T14:13:20.000Z"
        status, problem = await _call(side, "/v1/audit/chain", after="x")
        assert (status, problem["key"]) == (400, "after")


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A directory with a configuration, and a store that holds three audit records; no daemon."""
    (tmp_path / "config.yaml").write_text(
        "version: 1\nplatforms: {shop-a: {url: 'http://127.0.0.1:9/'}}\nadmin: {listen: '127.0.0.1:1'}\n"
    )
    store = await SqliteStore.open(tmp_path / "relay.db", clock=FakeClock())
    for n in range(3):
        await store.audit({**DEED, "action": "platform.pause", "target": f"shop-{n}"})
    await store.close()
    return tmp_path


def _relay(place: Path, capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, str, str]:
    code = run([*given, "-c", str(place / "config.yaml")])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_export_and_verify_by_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What export prints is whole for verify, in a file or in the store; a changed or cut file is not: exit 1."""
    code, exported, _ = _relay(place, capsys, "audit", "export")
    lines = exported.splitlines()
    assert (code, [sorted(json.loads(line)) for line in lines]) == (0, [["hash", "n", "record"]] * 3)
    file, head = place / "audit.jsonl", json.loads(lines[-1])["hash"]
    file.write_text(exported)
    assert _relay(place, capsys, "audit", "verify", str(file), "--head", head)[0] == 0
    code, told, _ = _relay(place, capsys, "audit", "verify")
    assert (code, f"records 1 to 3 are whole; head {head}" in told) == (0, True)
    assert _relay(place, capsys, "audit", "verify", "--head", head)[0] == 0
    assert _relay(place, capsys, "audit", "verify", "--head", head[:12])[0] == 2  # half a hash proves nothing
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))  # through an editor of another system
    assert _relay(place, capsys, "audit", "verify", str(file), "--head", head)[0] == 0
    code, _, told = _relay(place, capsys, "audit", "verify", "--head", "f" * 64)  # all records were written anew
    assert (code, "record 4 is missing" in told) == (1, True)

    file.write_text(exported.replace("shop-1", "shop-9"))
    code, _, told = _relay(place, capsys, "audit", "verify", str(file))
    assert (code, "record 2 was changed" in told) == (1, True)
    file.write_text("\n".join(lines[:2]))
    assert _relay(place, capsys, "audit", "verify", str(file))[0] == 0
    code, _, told = _relay(place, capsys, "audit", "verify", str(file), "--head", head)
    assert (code, "record 3 is missing" in told) == (1, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit SET record = replace(record, 'shop-0', 'shop-9') WHERE id = 1", "record 1 was changed"),
        ("UPDATE audit SET record = 'x' WHERE id = 2", "record 2 was changed"),
        ("DELETE FROM audit WHERE id = 2", "record 2 was dropped"),
        ("DELETE FROM audit WHERE id = 1", "record 1 is missing"),
        ("DELETE FROM audit WHERE id = 3", "record 3 is missing"),
        ("DELETE FROM audit", "record 1 is missing"),
    ],
)
def test_a_changed_store_is_found(place: Path, capsys: pytest.CaptureFixture[str], change: str, said: str) -> None:
    """Who edits the file is found out, also at either end."""
    with closing(apsw.Connection(str(place / "relay.db"))) as connection:  # as somebody who knows of the checksums
        connection.execute(change)
    code, _, told = _relay(place, capsys, "audit", "verify")
    assert (code, said in told) == (1, True), told
