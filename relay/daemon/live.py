"""The configuration in force, and how another one takes its place without a restart.

A reload first validates the whole file. Then store rules, pipelines and listeners are replaced. A platform that did not
change is not touched, requests under way finish, and a bad file changes nothing.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec

from relay.admin.access import Access, User
from relay.admin.http.server import AdminServer, AdminSettings
from relay.admin.resources.configuration import ConfigAccess
from relay.admin.standing.drain import DrainTerms
from relay.config.changes import in_words
from relay.config.diff import difference
from relay.config.effective import as_tree, effective
from relay.config.load import examine, load
from relay.config.problems import ConfigInvalid
from relay.config.report.translate import dotted
from relay.config.schema.file import Config
from relay.core.clock import monotonic_s
from relay.core.errors import StoreUnusable
from relay.core.model import NewCallback
from relay.core.plural import count
from relay.daemon.intake import directory, ingest_settings
from relay.daemon.reload_history import ReloadHistory
from relay.daemon.stores import key_source
from relay.daemon.systemd import Notifier
from relay.delivery.registry import Registry
from relay.delivery.terms import compile_all
from relay.ingest.server import IngestServer
from relay.privacy.views import Lenses
from relay.sealing.master_keys import KeysUnavailable
from relay.store.base import Store
from relay.telemetry.events import Events
from relay.telemetry.failure import describe
from relay.views.configuration import ChangeView, InForce, ReloadView
from relay.views.ledger import NO_TOTALS
from relay.web.refusal import Refusal

_T = TypeVar("_T")
_GRACE_S = 10.0
_MOST_VALIDATIONS = 4  # one under way; the others wait with their texts, of up to 4 MiB each


def admin_settings(config: Config, listen: str) -> AdminSettings:
    """Return the settings of the admin listener on ``listen``."""
    tls = None if config.admin.tls is None else config.admin.tls.context(config.directory)
    return AdminSettings(listen=listen, hosts=config.admin.hosts, origins=config.admin.origins, tls=tls)


def admin_users(config: Config) -> list[User]:
    """Return the configured users with their roles."""
    return [User(user.name, user.role, user.token, user.view) for user in config.admin.users]


class LiveConfig:
    """Holds the configuration in force. ``admin`` and ``ingest`` are the listeners that a new one is given to."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        registry: Registry,
        access: Access,
        lenses: Lenses,
        events: Events,
        notifier: Notifier,
    ) -> None:
        self.config = config
        self.directory = directory(config)
        self.admin: list[AdminServer] = []
        self.ingest: list[IngestServer] = []
        self.rekeyed: Callable[[], None] = lambda: None  # wakes what seals in the background
        self.followers: list[Callable[[Config, float], Awaitable[None]]] = []  # told what is in force, and a grace
        self.reloaded: list[Callable[[], None]] = []  # called when another configuration is in force
        self._store = store
        self._registry = registry
        self._access = access
        self._lenses = lenses
        self._events = events
        self._notifier = notifier
        self._history = ReloadHistory(store.clock)
        self._swapping = asyncio.Lock()
        self._validating = asyncio.Lock()
        self._validations = 0
        # Two threads of its own, for a reload and a validation: they delay neither each other nor other work.
        self._reading = ThreadPoolExecutor(2, thread_name_prefix="config")
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def for_operators(self) -> ConfigAccess:
        """What the admin API may do with the configuration."""
        return ConfigAccess(
            effective=self._effective,
            refused=lambda: self._history.last_refused,
            reloads=self._history.newest_first,
            validate=self._validate,
            reload=self.reload,
        )

    @property
    def refused_problems(self) -> int:
        """How many problems the last reload had, if it was refused."""
        refused = self._history.last_refused
        return 0 if refused is None else max(1, refused.problems)

    def reroute(self, unrouted: NewCallback) -> Sequence[NewCallback] | str:
        """Route a callback again that no route took. A thread of the store calls it."""
        return self.directory.reroute(unrouted)

    def terms(self) -> Mapping[str, DrainTerms]:
        """Return for each platform what its drain time depends on, and how long a callback may wait."""
        return {
            name: DrainTerms(platform.batch.max_items, platform.expires, platform.burst)
            for name, platform in self.config.platforms.items()
        }

    def reload_soon(self) -> None:
        """Reload in a task of its own (SIGHUP); the outcome is an event and a metric."""
        task = asyncio.create_task(self.reload(False, False, "SIGHUP"))
        self._tasks.add(task)
        task.add_done_callback(self._reloaded)

    async def reload(self, dry_run: bool, force: bool, by: str) -> ReloadView:
        """Load the file again and put it in force, for ``by``. A file with problems changes nothing.

        ``force`` removes platforms although callbacks wait for them; these stay visible.
        """
        async with self._swapping:
            try:
                return await self._reload(dry_run, force, by)
            except Exception as error:  # of any kind: it is reported, then raised
                if not dry_run:
                    told = describe(error)
                    what = ": ".join(told[name] for name in ("error", "detail") if name in told)
                    self._refuse([f"it could not be put in force: {what}"], by=by, changes=[], todo="relay reload")
                raise

    def _refuse(self, problems: Sequence[str], *, by: str, changes: Sequence[str], todo: str) -> None:
        """Keep and log that a reload was refused; ``todo`` is the command that tells more."""
        self._history.refused(by=by, changes=changes, problems=len(problems), todo=todo)
        self._events.config_loaded(ok=False, file=self.config.origin.file, problems=problems)

    async def _reload(self, dry_run: bool, force: bool, by: str) -> ReloadView:
        file = self.config.origin.file
        try:
            wanted = await self._beside(partial(load, file))
        except ConfigInvalid as invalid:
            problems = [str(problem) for problem in invalid.problems]
            if not dry_run:
                self._refuse(problems, by=by, changes=[], todo="relay config check")
            return ReloadView(applied=False, changes=[], added=[], removed={}, problems=problems)
        found = difference(self.config, wanted)
        changes = [
            ChangeView(
                path=".".join(map(str, change.path)),
                old=change.old,
                new=change.new,
                needs_restart=change.needs_restart,
            )
            for change in found.changes
        ]
        removed = await self._waiting(found.removed)
        problems = [] if force else _orphaned(removed)
        view = ReloadView(applied=False, changes=changes, added=list(found.added), removed=removed, problems=problems)
        # beside the loop: each value becomes YAML, and a new file has thousands
        told = await self._beside(partial(in_words, view, hidden=[dotted(path) for path in found.hidden]))
        if problems and not dry_run:
            self._refuse(problems, by=by, changes=told, todo="relay reload --dry-run")
        if problems or dry_run:
            return view
        if problems := await self._other_keys(wanted):
            self._refuse(problems, by=by, changes=told, todo="relay keys status")
            return msgspec.structs.replace(view, problems=problems)
        self._notifier.reloading(int(monotonic_s() * 1e6))
        outcome = "reload failed"
        try:
            await self._swap(wanted)
            outcome = "configuration reloaded"
        finally:  # systemd waits for the end of each reload, also of a failed one
            self._notifier.ready(f"{count(len(self.config.destinations), 'platform')}, {outcome}")
        self._history.applied(by=by, changes=told)
        self._events.config_loaded(ok=True, file=file, problems=[str(warning) for warning in wanted.warnings])
        return msgspec.structs.replace(view, applied=True, problems=[])

    async def _other_keys(self, wanted: Config) -> list[str]:
        """Put the keys of ``wanted`` in force; return why that cannot be."""
        if wanted.privacy.encrypt == self.config.privacy.encrypt:
            return []
        try:
            await self._store.sealing.use(key_source(wanted))
        except (StoreUnusable, KeysUnavailable) as error:
            return [f"privacy.encrypt: {error}"]
        self.rekeyed()
        return []

    async def _waiting(self, removed: Sequence[str]) -> dict[str, int]:
        totals = await self._store.totals() if removed else {}
        return {name: totals.get(name, NO_TOTALS).pending for name in removed}

    async def _swap(self, wanted: Config) -> None:
        """Replace rates first, so that nothing is sent under an old limit, and intake last, when all else is ready."""
        await self._store.configure(wanted.store_rules())
        await self._registry.replace(compile_all(wanted), _GRACE_S)
        intakes = self.directory = directory(wanted)
        for server in self.ingest:
            server.configure(settings=ingest_settings(wanted, server.listen), directory=intakes)
        for admin in self.admin:
            admin.configure(admin_settings(wanted, admin.listen))
        self._lenses.replace(wanted.privacy.masks, wanted.privacy.compiled())
        self._access.replace(admin_users(wanted))
        self.config = wanted
        for follower in self.followers:
            await follower(wanted, _GRACE_S)
        for tell in self.reloaded:
            tell()

    def _effective(self) -> InForce:
        settings = effective(self.config)
        return InForce(
            file=os.path.abspath(self.config.origin.file),
            config=as_tree(settings),
            origins={".".join(map(str, setting.path)): setting.origin for setting in settings},
        )

    async def _validate(self, text: str | None) -> Sequence[str]:
        """Return the problems of ``text``, or of the file. It takes seconds of a core, so one runs and few may wait.

        Raises ``Refusal`` (503 ``overloaded``) beyond that.
        """
        if self._validations >= _MOST_VALIDATIONS:
            raise Refusal("overloaded", "other configurations are being validated; try again in a moment")
        self._validations += 1
        try:
            async with self._validating:
                return await self._found_in(text)
        finally:
            self._validations -= 1

    async def _found_in(self, text: str | None) -> Sequence[str]:
        file = self.config.origin.file
        try:
            if text is not None:
                return [str(problem) for problem in await self._beside(partial(examine, text, path=file))]
            await self._beside(partial(load, file))
        except ConfigInvalid as invalid:
            return [str(problem) for problem in invalid.problems]
        return []

    async def _beside(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    def _reloaded(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # reported where it happened


def _orphaned(removed: Mapping[str, int]) -> list[str]:
    return [
        f"platforms.{name} is gone from the file but has {count(waiting, 'callback')} pending; "
        "drain or drop them first, or reload with force"
        for name, waiting in removed.items()
        if waiting
    ]
