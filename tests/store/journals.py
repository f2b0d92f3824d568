"""Conformance: what people did, in pages."""

from typing import Any

import pytest
from relay.core.errors import CountMismatch
from relay.core.model import Filter
from relay.privacy.chain import ORIGIN, Link, record_text, verify
from relay.store.base import Store
from relay.views.moments import Instant
from relay.views.operation_view import OperationOptions, OperationPage
from relay.views.past.journal import AuditHead, AuditPage, JournalFilter
from tests.store.harness import Harness, note, post, rules

_RECORD = {"at": None, "who": "ann", "role": "operator", "from": "unix", "target": "shop", "reason": "", "details": {}}
_RECORD |= {"action": "platform.pause"}


async def _did(store: Store, at: float, who: str, action: str, target: str) -> None:
    record = {"at": at, "who": who, "role": "operator", "from": "unix", "action": action, "target": target}
    await store.audit({**record, "reason": "sale", "details": {"rate": "5/min"}})


class JournalConformance:
    async def test_audit_in_pages(self, harness: Harness) -> None:
        """Audit records come back as they were kept, newest first, page by page, by who, action, target and time."""
        store, clock = await harness.open(rules()), harness.clock
        for number in range(5):
            await _did(store, clock.now(), "ann" if number % 2 else "bob", "platform.pause", f"shop-{number}")
            clock.advance(60)

        async def audits(cursor: str | None = None, limit: int = 9, **wanted: Any) -> AuditPage:
            return await store.journal.audits(JournalFilter(**wanted), cursor=cursor, limit=limit)

        first = await audits(limit=2)
        assert [each.target for each in first.items] == ["shop-4", "shop-3"]
        newest = first.items[0]
        assert (newest.who, newest.origin, newest.reason, newest.details) == ("bob", "unix", "sale", {"rate": "5/min"})
        assert newest.at == clock.now() - 60
        second = await audits(first.next, limit=2)
        last = await audits(second.next, limit=2)
        assert [each.target for each in (*second.items, *last.items)] == ["shop-2", "shop-1", "shop-0"]
        assert last.next is None
        assert [each.target for each in (await audits(who="ann")).items] == ["shop-3", "shop-1"]
        assert [each.target for each in (await audits(target="shop-2", action="platform.pause")).items] == ["shop-2"]
        assert (await audits(action="config.reload")).items == []
        span = {"since": clock.now() - 240, "until": clock.now() - 120}
        assert [each.target for each in (await audits(**span)).items] == ["shop-2", "shop-1"]

    async def test_operations_in_pages(self, harness: Harness) -> None:
        """Operations are listed newest first, by who, action, platform, whether they run, and time."""
        store, clock = await harness.open(rules()), harness.clock
        await post(store, note(b"1"), note(b"2"))
        for who, action, platform in (("ann", "drop", "shop"), ("bob", "expire", None), ("ann", "retry", "shop")):
            options = OperationOptions(who=who)
            await store.start_operation(action, Filter(platform=platform), options=options, expect_count=None)
            clock.advance(60)
        await store.step_operation(1, 10)

        async def operations(cursor: str | None = None, limit: int = 9, **wanted: Any) -> OperationPage:
            return await store.journal.operations(JournalFilter(**wanted), cursor=cursor, limit=limit)

        first = await operations(limit=2)
        assert [each.action for each in first.items] == ["retry", "expire"]
        assert [each.action for each in (await operations(first.next, limit=2)).items] == ["drop"]
        assert [each.id for each in (await operations(who="ann", platform="shop")).items] == [3, 1]
        assert [each.action for each in (await operations(action="expire")).items] == ["expire"]
        running = (await operations(running=True)).items
        done = (await operations(running=False)).items
        assert {each.state for each in running} == {"running"}
        assert {each.state for each in done} == {"done"}
        assert sorted(each.id for each in (*running, *done)) == [1, 2, 3]
        assert 1 in [each.id for each in done]
        span = {"since": clock.now() - 120, "until": clock.now() - 60}
        assert [each.action for each in (await operations(**span)).items] == ["expire"]

    async def test_audit_records_are_chained(self, harness: Harness) -> None:
        """Each record's hash holds that of the one before it, and the head is the newest; also with its deed."""
        store, clock = await harness.open(rules()), harness.clock
        assert await store.journal.audit_head() == AuditHead(count=0, hash=ORIGIN, at=None)
        await _did(store, clock.now(), "李", "platform.pause", "shop")
        deed = {**_RECORD, "action": "operation.drop"}
        await post(store, note(b"1"))
        await store.start_operation("drop", Filter(platform="shop"), expect_count=1, deed=deed)
        await store.set_gate("shop", {"paused": True}, deed={**_RECORD, "action": "platform.pause"})
        links = await store.journal.chain(after=0, limit=9)
        assert [(link.n, link.record["action"]) for link in links] == [
            (1, "platform.pause"),
            (2, "operation.drop"),
            (3, "platform.pause"),
        ]
        assert verify(Link(each.n, each.hash, record_text(each.record)) for each in links).fault is None
        assert await store.journal.audit_head() == AuditHead(count=3, hash=links[-1].hash, at=Instant(clock.now()))
        assert await store.journal.chain(after=1, limit=1) == links[1:2]

    async def test_a_refused_deed_leaves_no_record(self, harness: Harness) -> None:
        """The record is committed with its deed or not at all."""
        store = await harness.open(rules())
        with pytest.raises(CountMismatch):
            await store.start_operation("drop", Filter(platform="shop"), expect_count=7, deed=_RECORD)
        assert (await store.journal.audit_head()).count == 0

    async def test_old_audit_records_are_pruned_at_the_beginning(self, harness: Harness) -> None:
        """What is older than its keeping time goes, and a record of the chain says where it starts now."""
        store, clock = await harness.open(rules(keep_audit_s=100.0)), harness.clock
        for target in ("a", "b", "c"):
            await _did(store, clock.now(), "ann", "platform.pause", target)
            clock.advance(60)
        await store.prune()
        links = await store.journal.chain(after=0, limit=9)
        assert [link.n for link in links] == [3, 4]
        assert links[-1].record["details"]["first"] == 3
        whole = [Link(each.n, each.hash, record_text(each.record)) for each in links]
        assert verify(whole).fault is None
        newest = (await store.journal.audits(JournalFilter(), cursor=None, limit=1)).items[0]
        assert (newest.action, newest.who) == ("audit.prune", "relay")
        clock.advance(1000)
        await store.prune()
        clock.advance(1000)
        await store.prune()  # what pruning itself left is no reason to prune
        assert [link.n for link in await store.journal.chain(after=0, limit=9)] == [4, 5]
        assert (await store.journal.audit_head()).count == 5
