"""``relay doctor`` on sound and on spoiled stores."""

import asyncio
import errno
import json
import os
from pathlib import Path

import apsw
import pytest
from relay.cli.commands.keeping.salvage import salvage_store
from relay.core.model import NewCallback, PlatformRules, StoreRules
from relay.store.sqlite.backend import SqliteStore
from tests import warm_start


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration beside a store with three callbacks pending, and no daemon."""

    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "relay.db")
        await store.configure(StoreRules(platforms={"shop-a": PlatformRules()}))
        row = NewCallback("shop-a", b"{}", None, None, 1, 60.0, None, None, None, "")
        await store.accept([row] * 3)
        await store.close()

    asyncio.run(fill())
    file = tmp_path / "config.yaml"
    file.write_text(
        'version: 1\nadmin: {listen: "unix:' + str(tmp_path) + '/no.sock"}\n'
        "platforms: {shop-a: {url: http://127.0.0.1:9/}}\n"
    )
    return file


def doctor(config: Path) -> tuple[warm_start.Ran, dict[str, str]]:
    """Run it; return also the state of each thing examined."""
    ended = warm_start.run_here("doctor", "-c", str(config), "-o", "jsonl")
    found = [json.loads(line) for line in ended.out.splitlines()]
    return ended, {finding["what"]: finding["state"] for finding in found}


def test_sound_store(config: Path) -> None:
    """Everything is ok but the daemon, which does not run; exit 0."""
    ended, found = doctor(config)

    assert ended.code == 0, ended.out + ended.err
    assert found == {
        "configuration": "ok", "daemon": "warn", "store": "ok", "room": "ok", "integrity": "ok",
        "ledger shop-a": "ok",
    }  # fmt: skip
    assert "3 accepted" in ended.out


def test_ledger_that_disagrees_with_its_rows(config: Path) -> None:
    """A row that vanished behind the ledger's back is found; exit 1."""
    with apsw.Connection(str(config.parent / "relay.db")) as connection:
        connection.execute("DELETE FROM callback WHERE seq = (SELECT min(seq) FROM callback)")
    connection.close()

    ended, found = doctor(config)

    assert ended.code == 1
    assert found["ledger shop-a"] == "fail"


def test_callbacks_of_a_platform_that_is_gone(config: Path) -> None:
    """What waits for a platform that the file no longer has is a warning: nothing will send it."""
    config.write_text(config.read_text().replace("shop-a:", "shop-b:"))

    ended, found = doctor(config)

    assert (ended.code, found["platform shop-a"]) == (0, "warn")
    assert "3 callbacks wait and it is no longer configured" in ended.out


def test_callbacks_in_the_file_that_was_the_store(config: Path) -> None:
    """What waits in the file from before ``store.url`` named a server is told: this relay does not send it."""
    config.write_text(config.read_text() + "store: {url: redis://127.0.0.1:9/0}\n")

    told = doctor(config)[0].out

    assert f"{config.parent}/relay.db holds 3 callbacks pending, and this relay does not send them" in told


def test_no_file_from_before_the_server(config: Path) -> None:
    """Where there is none, nothing is told of it."""
    config.write_text(config.read_text() + "store: {url: redis://127.0.0.1:9/0}\n")
    (config.parent / "relay.db").unlink()

    assert "relay.db" not in doctor(config)[0].out.replace(str(config), "")


def test_file_others_can_read(config: Path) -> None:
    """A store that others may read is a failure that says how to mend it."""
    (config.parent / "relay.db").chmod(0o644)

    ended, found = doctor(config)

    assert (ended.code, found["store"]) == (1, "fail")
    assert "chmod 600" in ended.out


def test_a_damaged_store_is_salvaged(config: Path) -> None:
    """The damage is found; what is read takes its place; the damaged file and a report are kept; then all is sound."""
    store = config.parent / "relay.db"
    connection = apsw.Connection(str(store))
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'payload'").get
    connection.close()
    with store.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 64)
    assert "fail" in doctor(config)[1].values()

    code, told, _ = warm_start.run_here("doctor", "--salvage", "--yes", "-c", str(config))
    assert code == 0

    assert "salvaged  3 callbacks" in told
    assert "dead      3 whose payload is gone" in told
    (report,) = config.parent.glob("relay.db.damaged-*.report.json")
    assert json.loads(report.read_text())["unsendable"] == 3
    assert Path(json.loads(report.read_text())["former"]).stat().st_size > 0
    assert doctor(config)[1]["integrity"] == "ok"
    assert doctor(config)[1]["ledger shop-a"] == "ok"


@pytest.mark.parametrize(("output", "word"), [("table", "salvaged  3 callbacks"), ("json", '"rows"')])
def test_a_salvage_whose_report_cannot_be_written_tells_all_the_same(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, word: str
) -> None:
    """The new store took the last room of the disk: it is in its place, and what is lost is said."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    salvage_store(str(config), yes=True, output=output)
    told = capsys.readouterr()
    assert word in told.out
    assert "report.json could not be written: No space left on device" in told.err
