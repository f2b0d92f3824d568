"""What a restored backup keeps of the store that it replaces: who did it, and what was forgotten there."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import apsw
from click.testing import CliRunner
from relay.cli.commands.keeping.backup import restore as restore_command
from relay.core.model import Filter
from relay.privacy.chain import Link, record_text, verify
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.file.copying import back_up
from relay.store.sqlite.keeping.replaced import audit_head
from relay.views.operation_view import OperationOptions
from relay.views.past.journal import JournalFilter
from tests.clocks import FakeClock
from tests.store.harness import note, post
from tests.store.test_copies import opened
from tests.store.test_sealed_file import raw


async def test_what_was_forgotten_is_known_after_a_detour(tmp_path: Path) -> None:
    """A backup from before the order takes the place of the store, then one that holds it: it is forgotten all the
    same, and the audit tells who put it there, with the head of the store that was replaced."""
    clock, path, before, holding = FakeClock(), tmp_path / "relay.db", tmp_path / "b0.db", tmp_path / "b1.db"
    store = await opened(path, clock)
    await post(store, note(b"1", key="other"))
    back_up(path, before, None)
    await post(store, note(b'{"phone": "13812345678"}', key="4711"))
    back_up(path, holding, None)
    asked = OperationOptions(reason="she asked")
    started = await store.start_operation("forget", Filter(key="4711"), options=asked, expect_count=1)
    await store.step_operation(started.id, 10)
    await store.audit({"who": "ops", "action": "payload.reveal"})
    await store.close()
    config = "version: 1\nstore: {url: 'sqlite:relay.db'}\nplatforms: {shop: {url: 'https://a.example/'}}\n"
    (tmp_path / "config.yaml").write_text(config)
    heads = []
    for copy in (before, holding):
        heads.append(audit_head(path))
        words = [str(copy), "-c", str(tmp_path / "config.yaml"), "-o", "json"]
        told = await asyncio.to_thread(CliRunner().invoke, restore_command, words)
        assert told.exit_code == 0, told.output
        for former in tmp_path.glob("relay.db.replaced-*"):  # within a second the next one has the same name
            former.unlink()

    assert json.loads(told.output)["forgotten_again"] == 1
    assert b"13812345678" not in raw(path)
    again = await opened(path, clock)
    (restored, *_) = (await again.journal.audits(JournalFilter(action="store.restore"), cursor=None, limit=9)).items
    assert restored.details == {"backup": "b1.db", "former": heads[1]}
    assert heads[0]["count"] == 1
    links = await again.journal.chain(after=0, limit=9)
    assert verify(Link(each.n, each.hash, record_text(each.record)) for each in links).fault is None
    await again.close()


async def test_its_record_is_of_now_by_the_clock_of_the_store(tmp_path: Path) -> None:
    """Where the wall clock was set back by two hours while the machine was up, the store's own goes on from before."""
    path, copy = tmp_path / "relay.db", tmp_path / "copy.db"
    await (await SqliteStore.open(path)).close()
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE meta SET value = value + 7200.0 WHERE name IN ('offset_s', 'last_at')")
    back_up(path, copy, None)
    (tmp_path / "config.yaml").write_text(
        "version: 1\nstore: {url: 'sqlite:relay.db'}\nplatforms: {shop: {url: 'https://a.example/'}}\n"
    )
    words = [str(copy), "-c", str(tmp_path / "config.yaml")]
    told = await asyncio.to_thread(CliRunner().invoke, restore_command, words)
    assert told.exit_code == 0, told.output
    again = await SqliteStore.open(path)
    (record,) = (await again.journal.audits(JournalFilter(action="store.restore"), cursor=None, limit=9)).items
    assert again.clock.now() - 600 < record.at <= again.clock.now()
    await again.close()
