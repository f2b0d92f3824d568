"""The daemon's part in comparisons: it runs them nightly and on demand, and asks platforms for commands that compare.

One runs at a time. A run whose time passed while the daemon was down is made up once. What the runs found is read from
their folders, so that what a command found counts as well.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast
from zoneinfo import ZoneInfo

import msgspec

from relay.admin.access import Caller
from relay.admin.audit import deed
from relay.alerts.facts import ReconcileFacts
from relay.config.schema.file import Config
from relay.core.clock import wall_s
from relay.core.errors import RelayError, StoreError
from relay.core.model import Accepted, Filter, NewCallback
from relay.core.raw import JsonObject, Record
from relay.daemon.reconciling.inquiries import CallbackPayloads, Questions
from relay.daemon.reconciling.run_summary import began, differing, facts_of, failure, is_complete, told_of
from relay.daemon.reconciling.turns import ComparisonTurns
from relay.daemon.reconciling.unposted import Unposted
from relay.delivery.pipeline import Pipeline
from relay.reconcile.job import PlatformReply, Question
from relay.reconcile.preparing import Window
from relay.reconcile.results import RunSummary
from relay.reconcile.whole_files import write_whole
from relay.reconcile.workspace import DIRECTORY, Workspace
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep.alarm import persist
from relay.views.operation_view import OperationOptions, OperationView

if TYPE_CHECKING:  # what compares and reports is loaded where something is compared
    from relay.reconcile.conduct import Choice
    from relay.reconcile.report.past import PastRuns

_LOOK_S: Final = 20.0
_KEPT: Final = timedelta(days=90)
_OVERDUE_S: Final = 3600.0  # so long after its time a run that has not begun did not happen
_AHEAD_S: Final = 60.0  # a run that began so much later than now began by a clock that was off
_SEEN: Final = "scheduled"  # since when the daemon knows that a platform is to be compared
ITSELF: Final = Caller("reconcile", "relay", "-", frozenset())
"""Who does what a comparison does by itself, for audit records."""


class ReconciledStore(CallbackPayloads, Protocol):
    """The part of a store that comparisons need."""

    def accept(self, rows: Sequence[NewCallback]) -> Awaitable[Accepted]:
        """Queue rows durably; one whose idempotency key is known is not queued again."""
        ...

    def start_operation(
        self,
        action: str,
        wanted: Filter,
        *,
        options: OperationOptions,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> Awaitable[OperationView]:
        """Fix the matches and record the operation with its audit record."""
        ...


class DaemonReconciler:
    """Runs comparisons, and tells of them."""

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        find: Callable[[str], Pipeline | None],
        store: ReconciledStore,
        events: Events,
        metrics: Metrics,
        turns: ComparisonTurns,
        wall: Callable[[], float] = wall_s,
    ) -> None:
        """``turns`` says which host compares what."""
        self._turns = turns
        self._elsewhere: dict[str, float] = {}  # by platform: the time whose comparison another host ran
        self._config = config
        self._questions = Questions(config=config, find=find, ledger=store)
        self._store = store
        self.operation_started: Callable[[], None] = _nobody  # wakes the side duty that runs operations
        self._wall = wall
        self._events = events
        self._metrics = metrics
        self.looked_at = 0.0  # wall time of the last look at what is due
        self._under_way: dict[str, str] = {}  # by run: its platform
        self._tasks: set[asyncio.Task[None]] = set()
        self._one = asyncio.Lock()
        self._summaries: dict[str, tuple[str, RunSummary | None, RunSummary | None]] = {}
        self._no_folder: dict[str, str] = {}  # by platform: why its folder cannot be used
        self._known: dict[str, float] = {}  # by platform: since when it is known that it is to be compared

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return bool(self._under_way)

    async def run(self) -> None:
        """Compare each platform at its time, until cancelled."""
        try:
            while True:
                now = self._wall()
                for platform, at in await asyncio.to_thread(self._look):
                    if await self._begins(platform, at):
                        space = self._entered(platform)
                        if space is not None:
                            await self._compare(platform, space)
                        with suppress(StoreError):  # else a next owner runs it again
                            await self._turns.done(platform, at)
                self.looked_at = now
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _begins(self, platform: str, at: float) -> bool:
        """Take the turn of a time, where it is this host's."""
        if not self._turns.mine(platform) or self._elsewhere.get(platform) == at:
            return False
        try:
            begun = await self._turns.begin(platform, at)
        except StoreError:
            return False  # the next look asks again
        if not begun:
            self._elsewhere[platform] = at
        return begun

    async def ask(self, platform: str, question: JsonObject) -> JsonObject:
        """Ask the platform under its limits. Raises ``KeyError`` for a platform that is not compared."""
        return cast(JsonObject, msgspec.to_builtins(await self._answer(platform, msgspec.convert(question, Question))))

    async def start(self, platform: str) -> JsonObject:
        """Start a run and return it. Raises ``KeyError`` and, where one is under way, ``RelayError``."""
        self._config().reconcile[platform]  # raises
        space = Workspace(self._state(), platform)
        try:
            space.__enter__()
        except OSError as error:
            self._cannot_keep(platform, error)
            raise RelayError(self._no_folder[platform]) from error
        task = asyncio.create_task(self._compare(platform, space), name=f"reconcile {platform}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._under_way[space.run] = platform
        return {"run": space.run, "platform": platform, "state": "running"}

    async def listed(self, platform: str | None) -> list[JsonObject]:
        """Return the runs, of one platform or of all, newest first, without their differences."""
        running = [
            {"run": name, "platform": of, "state": "running"}
            for name, of in self._under_way.items()
            if platform in (None, of)
        ]
        kept = await asyncio.to_thread(self._kept_runs, platform)
        return sorted([*running, *kept], key=lambda each: str(each["run"]), reverse=True)[:100]

    async def one(self, name: str) -> JsonObject | None:
        """Return a run with its differences, or None."""
        if name in self._under_way:
            return {"run": name, "platform": self._under_way[name], "state": "running"}
        return await asyncio.to_thread(self._kept_run, name)

    def facts(self) -> Mapping[str, ReconcileFacts]:
        """Return how the last run of each platform stands, as it was looked at last."""
        found = {}
        for platform in self._config().reconcile:
            _, last, _ = self._summaries.get(platform, ("", None, None))
            if platform in self._no_folder:
                found[platform] = ReconcileFacts(trouble="failed")
            elif self._missed(platform):
                found[platform] = ReconcileFacts(trouble="missed")
            elif last is not None:
                found[platform] = facts_of(last)
        return found

    async def _answer(self, platform: str, question: Question) -> PlatformReply:
        return await self._questions.answer(platform, question)

    def _entered(self, platform: str) -> Workspace | None:
        space = Workspace(self._state(), platform)
        try:
            return space.__enter__()
        except RelayError:
            return None  # a command compares it now, which counts as well
        except OSError as error:
            self._cannot_keep(platform, error)
            return None

    async def _compare(self, platform: str, space: Workspace) -> None:
        """Compare in a workspace that was entered, and leave it."""
        self._under_way[space.run] = platform
        try:
            async with self._one:
                await self._compared(platform, space)
        except OSError as error:  # also where what came of it cannot be kept
            self._cannot_keep(platform, error)
        finally:
            space.__exit__(None, None, None)
            await asyncio.to_thread(self._look)
            self._under_way.pop(space.run, None)

    async def _compared(self, platform: str, space: Workspace) -> None:
        from relay.reconcile.conduct import WantedRun, run
        from relay.reconcile.report.past import PastRuns

        config, now = self._config(), self._wall()
        settings = config.reconcile.get(platform)
        if settings is None:
            return  # a reload took it away while another platform was compared
        window = Window(now - settings.span, now)
        past = PastRuns(space.kept)

        unposted = Unposted(platform)

        async def ask(question: Question) -> PlatformReply:
            try:
                return await self._answer(platform, question)
            except KeyError:
                raise RelayError(f"{platform} is no longer compared: the configuration was changed") from None

        try:
            finished = await run(
                WantedRun(config, platform, window, background=True),
                space,
                ask=ask,
                now=now,
                found=unposted.note,
                choice=self._choice(config, platform),
            )
        except RelayError as error:
            self._events.reconciled(platform=platform, run=space.run, complete=False, differences=0, error=str(error))
            past.keep_failure(failure(platform, space.run, window, str(error)))
            return
        summary = finished.summary
        if summary["complete"] and config.receipts is not None:
            for rows in unposted.receipts(config.receipts.in_store):
                await persist(partial(self._store.accept, rows), events=self._events)
        self._events.reconciled(
            platform=platform, run=space.run, complete=summary["complete"], differences=differing(summary)
        )
        past.prune(f"{datetime.fromtimestamp(now, UTC) - _KEPT:%Y%m%dT%H%M%S}")

    def _choice(self, config: Config, platform: str) -> "Choice | None":
        from relay.reconcile.conduct import Choice

        auto = config.reconcile[platform].repair.auto
        if auto is None:
            return None
        expires_s = config.platforms[platform].expires

        async def resend(run_name: str, callbacks: Sequence[str]) -> int:
            reason = f"reconcile {run_name}"
            started = await self._store.start_operation(
                "resend",
                Filter(platform=platform, ids=tuple(callbacks)),
                options=OperationOptions(who=ITSELF.name, reason=reason, run=run_name, expires_s=expires_s),
                expect_count=None,
                deed=deed(self._wall(), ITSELF, "operation.resend", platform, reason=reason),
            )
            self.operation_started()
            return started.id

        return Choice(auto.kinds, auto.max, resend, lambda count, summary: True, all_or_none=True)

    # What lies on disk

    def _state(self) -> Path:
        return self._config().origin.state_directory

    def _past(self, platform: str) -> "PastRuns":
        from relay.reconcile.report.past import PastRuns

        return PastRuns(self._state() / DIRECTORY / platform)

    def _look(self) -> list[tuple[str, float]]:
        """Read what the last runs found; return the platforms that are due, since when. One whose folder is unusable is
        not.
        """
        due = []
        for platform, settings in self._config().reconcile.items():
            try:
                self._read(platform)
                if settings.at is not None:
                    self._known[platform] = self._known_since(platform, self._wall())
                at = None if settings.at is None else self._due_at(platform, settings.at, settings.tz)
                if at is not None:
                    due.append((platform, at))
            except OSError as error:
                self._cannot_keep(platform, error)
            else:
                self._no_folder.pop(platform, None)
        return due

    def _read(self, platform: str) -> None:
        past, latest = self._past(platform), self._wall() + _AHEAD_S
        # A run of a time when the clock was ahead is none of last night, and must not stand for all until then
        runs = [name for name in past.runs() if began(name) <= latest]
        last = runs[-1] if runs else ""
        if last and self._summaries.get(platform, ("",))[0] != last:
            whole = next((found for name in reversed(runs) if is_complete(found := past.summary(name))), None)
            self._summaries[platform] = (last, past.summary(last), whole)
            self._measure(platform, whole)

    def _cannot_keep(self, platform: str, error: OSError) -> None:
        """Tell once that a platform's folder cannot be read or written: the next look tries it again."""
        why = f"{error.filename or self._state()}: {error.strerror or error}"
        if self._no_folder.get(platform) != why:
            self._no_folder[platform] = why
            self._events.reconciled(platform=platform, run="", complete=False, differences=0, error=why)

    def _measure(self, platform: str, whole: RunSummary | None) -> None:
        if whole is not None:
            at = datetime.fromisoformat(str(whole["until"])).timestamp()
            self._metrics.reconciled[platform] = (at, dict(whole["counts"]))

    def _due_at(self, platform: str, at: time, tz: str) -> float | None:
        """Return since when a run is due; None: it is not."""
        now = self._wall()
        slot = last_slot(now, at, ZoneInfo(tz))
        last = self._summaries.get(platform, ("", None, None))[0]
        begun = began(last) if last else self._known.get(platform, now)
        return slot if begun < slot else None

    def _missed(self, platform: str) -> bool:
        settings = self._config().reconcile[platform]
        if settings.at is None or platform in self._under_way.values() or not self._turns.mine(platform):
            return False
        due_at = self._due_at(platform, settings.at, settings.tz)
        if due_at is None or self._elsewhere.get(platform) == due_at:
            return False
        return self._wall() - due_at > _OVERDUE_S

    def _known_since(self, platform: str, now: float) -> float:
        """Return since when it is known that the platform is to be compared: what was before was not missed."""
        file = self._state() / DIRECTORY / platform / _SEEN
        if not file.parent.exists():
            for folder in (file.parent.parent, file.parent):  # of `parents=True` the upper one would be open to all
                folder.mkdir(mode=0o700, exist_ok=True)
        try:
            since = float(file.read_text())
        except (FileNotFoundError, ValueError):  # ValueError: it is damaged
            since = math.inf
        if since > now + _AHEAD_S:  # also where a clock wrote it that was ahead
            write_whole(file, str(since := now).encode())
        return since

    def _kept_runs(self, platform: str | None) -> list[JsonObject]:
        found = []
        for name in self._config().reconcile if platform is None else (platform,):
            past = self._past(name)
            found += [told_of(summary) for run_name in past.runs()[-100:] if (summary := past.summary(run_name))]
        return found

    def _kept_run(self, name: str) -> JsonObject | None:
        if not (name.isascii() and name.isalnum()):
            return None
        for platform in self._config().reconcile:
            whole = self._past(platform).whole(name)
            if whole is not None:
                return told_of(whole)
        return None


def _nobody() -> None:
    """Wake nobody: no side duty runs yet."""


def last_slot(now: float, at: time, zone: ZoneInfo) -> float:
    """Return the last time before ``now`` (seconds since 1970) at which it was ``at`` in ``zone``."""
    day = datetime.fromtimestamp(now, zone).date()
    slot = datetime.combine(day, at, zone).timestamp()
    return slot if slot <= now else datetime.combine(day - timedelta(days=1), at, zone).timestamp()
