"""What is done to a store while its daemon is down, under the lock of the store: keys rotated, data destroyed."""

import getpass
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from relay.admin import filters
from relay.admin.access import Caller
from relay.admin.audit import deed
from relay.admin.resources.platform_routes import unknown_platform
from relay.config.schema.file import Config
from relay.core.clock import wall_s
from relay.core.model import Filter
from relay.core.raw import JsonObject
from relay.daemon.stores import key_source, open_store
from relay.store.base import Store
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.keeping.forgotten import Forgotten, Tombstone
from relay.store.sqlite.keeping.replaced import audit_head, take_place
from relay.views.moments import instant_text
from relay.views.operation_view import OperationOptions, OperationView
from relay.views.sealing_view import KeysRotated

_STEP = 500


async def rotate(config: Config, *, reason: str) -> KeysRotated:
    """Wrap all data keys with the key in force. Raises ``StoreError`` and ``KeysUnavailable``."""
    async with _opened(config) as store:
        return await store.sealing.rotate(deed=deed(wall_s(), _whoever(), "keys.rotate", "*", reason=reason))


async def forget(config: Config, given: JsonObject, *, reason: str) -> OperationView:
    """Destroy what is kept of the callbacks that a filter means. What is in a frozen batch waits for the daemon.

    Raises ``StoreError``, ``KeysUnavailable`` and ``Refusal``.
    """
    async with _opened(config) as store:
        now = store.clock.now()
        wanted = filters.parse(given, now=now, shift_s=wall_s() - now)
        if wanted.platform is not None and wanted.platform not in config.platforms:
            known = await store.totals()
            if wanted.platform not in known:
                raise unknown_platform(wanted.platform, [*config.platforms, *known])
        return await _forgotten(store, wanted, reason)


async def forget_again(config: Config, at: Path, wanted: Sequence[Forgotten]) -> int:
    """Destroy in ``at``, a backup that is to be the store, what was forgotten since; return how many callbacks.

    Raises ``StoreError`` and ``KeysUnavailable``.
    """
    async with _opened(config, at) as store:
        done = [await _forgotten(store, each.meant, f"restored: {each.reason}") for each in wanted]
        return sum(each.matched for each in done)


def note_restored(store: Path, coming: Path, copy: Path, elsewhere: Sequence[Tombstone]) -> None:
    """Record in ``coming``, made of the backup ``copy``, that it takes the place of ``store``; keep its tombstones.

    Raises ``StoreUnusable``.
    """
    record = deed(wall_s(), _whoever(), "store.restore", "*", backup=copy.name, former=audit_head(store))
    take_place(coming, record, elsewhere)


async def _forgotten(store: Store, wanted: Filter, reason: str) -> OperationView:
    about = {} if wanted.key is None else {"key": store.sealing.mark(wanted.key)}
    shift_s = wall_s() - store.clock.now()
    before = {} if wanted.until is None else {"before": instant_text(wanted.until, shift_s)}
    who = _whoever()
    record = deed(wall_s(), who, "keys.forget", wanted.platform or "*", reason=reason, **about, **before)
    progress = await store.start_operation(
        "forget", wanted, options=OperationOptions(who=who.name, reason=reason), expect_count=None, deed=record
    )
    while progress.finished_at is None and progress.matched - progress.worked_off > progress.waiting:
        progress = (await store.step_operation(progress.id, _STEP)).progress
    return progress


@asynccontextmanager
async def _opened(config: Config, at: Path | None = None) -> AsyncIterator[Store]:
    store = await (open_store(config, None) if at is None else SqliteStore.open(at, keys=key_source(config)))
    try:
        await store.configure(config.store_rules())
        yield store
    finally:
        await store.close()


def _whoever() -> Caller:
    return Caller(getpass.getuser(), "local", "command line", frozenset())
