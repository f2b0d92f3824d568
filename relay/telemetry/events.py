"""One method for each fact: it writes the log line and counts the metric, so that neither is forgotten.

Names are stable: dashboards and log searches are built on them. A payload, an ordering key or a secret is never an
argument. What happens for each callback or commit is only counted, or logged at debug level. What a person must act on
is a warning. All methods are called on the event loop, except ``store_committed``, which a store's writer thread may
call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from relay.core.clock import elapsed_s
from relay.core.errors import StoreDamaged
from relay.core.model import Batch
from relay.core.raw import JsonObject
from relay.core.settlement import AttemptResult
from relay.telemetry.failure import describe
from relay.telemetry.leveled import LeveledLog
from relay.telemetry.metrics import Metrics, code_class, reason_label
from relay.telemetry.repeated import DAMAGED_S, FAILED_S, REFUSED_S, Repeated

_SLOW_COMMIT_S = 1.0
_MOST_REASONS = 1000  # told apart between two looks: codes in them come from platforms


class LimitReport(NamedTuple):
    """A limit nobody configured: what it is, where it comes from, and what to do about it."""

    platform: str
    group: str  # "" for the whole platform
    source: str  # learned, declared by the platform, or set by an operator
    rates: list[str]  # as the configuration writes them
    enforced: bool
    confidence: float
    evidence: str  # a sentence
    adopt: str  # the line of the configuration that states it: a person should write it there, or ask the platform


class Events:
    """Writes what happened to the log and to the metrics."""

    def __init__(self, *, log: LeveledLog, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._repeated = Repeated()
        self.attempt_ended: Callable[[Batch, AttemptResult], None] | None = None  # makes its span, where one is wanted

    # --- intake

    def accepted(self, *, platform: str, count: int, duplicates: int) -> None:
        """``count`` new callbacks are on disk; ``duplicates`` repeats were answered with their first ids."""
        if duplicates:
            self._metrics.duplicates[platform] += duplicates
        self._metrics.flows.came_in(platform, count, elapsed_s())
        self._log.debug("accepted", platform=platform, count=count, duplicates=duplicates)

    def refused(self, *, listener: str, code: str) -> None:
        """A request was answered with a problem; ``code`` is the problem's stable code."""
        self._metrics.refused[listener, code] += 1
        left_out = self._repeated.left_out("refused", listener, code, every_s=REFUSED_S)
        if left_out is not None:
            self._log.warning("refused", listener=listener, code=code, since_last_line=left_out)

    def handler_failed(self, *, listener: str, route: str, error: BaseException) -> None:
        """A request handler raised an unexpected exception, which is a bug; the client got a 500."""
        self._metrics.refused[listener, "internal"] += 1
        self._log.error("handler_failed", listener=listener, route=route, **describe(error))

    def acceptor_started(self, *, pid: int) -> None:
        """A process takes posts in from now on (``ingest.processes``)."""
        self._metrics.acceptors += 1
        self._log.info("acceptor_started", pid=pid)

    def acceptor_ended(self, *, pid: int, code: int, was_ready: bool, wait_s: float) -> None:
        """Such a process ended with ``code`` (negative: by that signal); another is started in ``wait_s`` seconds."""
        self._metrics.acceptors -= was_ready
        self._metrics.acceptors_ended += 1
        self._log.error("acceptor_ended", pid=pid, code=code, wait_s=wait_s)

    def acceptor_silent(self, *, pid: int, silent: bool) -> None:
        """Such a process does not answer, so that the daemon takes connections itself; or it answers again."""
        log = self._log.error if silent else self._log.info
        log("acceptor_silent" if silent else "acceptor_answers", pid=pid)

    # --- delivery

    def attempt(self, batch: Batch, result: AttemptResult) -> None:
        """One request ended. ``result.reason`` is in the relay's own words, never the platform's."""
        metrics, platform, items = self._metrics, batch.platform, len(batch.items)
        outcome = result.outcome.value
        if self.attempt_ended is not None:
            self.attempt_ended(batch, result)
        metrics.requests[platform, outcome, code_class(result.status)] += 1
        if items:  # a question carries none
            metrics.batch_items.of(platform).add(items)
        metrics.request_duration.of(platform).add(result.duration_s)
        metrics.batch_bytes[platform, "raw"] += result.raw_bytes
        metrics.batch_bytes[platform, "wire"] += result.wire_bytes
        log = self._log.debug if result.outcome.accepted else self._log.info
        log(
            "attempt",
            platform=platform,
            batch=batch.id,
            attempt=batch.attempt,
            outcome=outcome,
            status=result.status,
            items=items,
            wire_bytes=result.wire_bytes,
            duration_s=round(result.duration_s, 4),
            reason=result.reason,
        )

    def delivered(self, *, platform: str, latencies: Sequence[float], late: int) -> None:
        """Callbacks were delivered; ``latencies`` are seconds from acceptance, one for each.

        ``late`` of them were later than the platform's objective allows.
        """
        self._metrics.latency.of(platform).add_many(latencies)
        self._metrics.flows.went_out(platform, len(latencies), elapsed_s())
        if late:
            self._metrics.late[platform] += late

    def retried(self, *, platform: str, count: int, reason: str) -> None:
        """``count`` callbacks will be sent again."""
        self._metrics.retries[platform, reason_label(reason)] += count
        self._log.debug("retried", platform=platform, count=count, reason=reason)

    def dead(self, *, platform: str, count: int, reason: str) -> None:
        """``count`` callbacks became dead letters: a person must look."""
        word, lately = reason_label(reason), self._metrics.dead_lately
        self._metrics.dead[platform, word] += count
        if (platform, word, reason) in lately or len(lately) < _MOST_REASONS:
            lately[platform, word, reason] += count
        self._log.warning("dead", platform=platform, count=count, reason=reason)

    def expired(self, *, platform: str, count: int, reason: str) -> None:
        """``count`` callbacks ran out of time before they were delivered, or a person ended them as expired."""
        self._log.warning("expired", platform=platform, count=count, reason=reason)

    def held(self, *, platform: str, count: int, reason: str) -> None:
        """``count`` callbacks wait for a person or a read-back: the answer was not recognised."""
        self._log.warning("held", platform=platform, count=count, reason=reason)

    def throttled(self, *, platform: str, wait_s: float, reason: str, group: str = "") -> None:
        """The platform (or one group of it) is left alone for ``wait_s``."""
        self._log.info("throttled", platform=platform, group=group, wait_s=round(wait_s, 3), reason=reason)

    def breaker_opened(self, *, platform: str, reason: str) -> None:
        """Nothing but probes is sent from now on. Also called at the start for a breaker that was open before."""
        self._log.warning("breaker_opened", platform=platform, reason=reason)

    def breaker_closed(self, *, platform: str) -> None:
        """The platform accepted again."""
        self._log.info("breaker_closed", platform=platform)

    def limit_learned(self, limit: LimitReport) -> None:
        """A limit nobody configured is believed from now on, or no longer when it has no rates."""
        self._metrics.limits_learned[limit.platform] += 1
        if limit.rates:
            self._log.warning("limit_learned", **limit._asdict())
        else:
            self._log.info("limit_forgotten", **limit._asdict())

    def limit_not_kept(self, *, platform: str, reason: str) -> None:
        """The stored limits of a platform cannot be read; they are learned anew."""
        self._log.error("limit_not_kept", platform=platform, reason=reason)

    def plain_remembered(self, *, platform: str) -> None:
        """The platform refused a compressed body; it gets plain ones from now on."""
        self._log.info("plain_remembered", platform=platform)

    def pipeline_failed(self, *, platform: str, error: BaseException, restart_s: float) -> None:
        """A platform's pipeline raised, which is a bug; it starts again after ``restart_s``."""
        self._log.error("pipeline_failed", platform=platform, restart_s=restart_s, **describe(error))

    def pipeline_stopped(self, *, platform: str, error: BaseException, times: int) -> None:
        """A platform's pipeline raised the same exception ``times`` in a row; it stands still until a person acts."""
        self._log.error("pipeline_stopped", platform=platform, times=times, **describe(error))

    # --- credentials

    def token_fetched(self, *, credential: str, seconds: float, lives_s: float) -> None:
        """A token endpoint handed out a token that lives ``lives_s``."""
        self._metrics.tokens_lacking.discard(credential)
        self._log.info("token_fetched", credential=credential, seconds=round(seconds, 3), lives_s=round(lives_s))

    def token_failed(self, *, credential: str, reason: str, again_s: float) -> None:
        """A token endpoint gave no token, for ``reason`` in our own words; it is asked again after ``again_s``."""
        self._metrics.token_failures[credential] += 1
        self._metrics.tokens_lacking.add(credential)
        self._log.warning("token_failed", credential=credential, reason=reason, again_s=round(again_s, 3))

    def token_not_kept(self, *, credential: str, error: BaseException) -> None:
        """A token could not be stored. It is in use, but after a restart an older refresh token is used."""
        self._log.error("token_not_kept", credential=credential, **describe(error))

    # --- store

    def store_begun(self, *, path: str) -> None:
        """No store was there, so an empty one is begun: nothing waits in it."""
        self._log.info("store_begun", path=path)

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None:
        """Who sent before this process was killed or crashed amid these. They are sent again under their ids."""
        self._log.warning("requests_cut_off", platform=platform, requests=requests, callbacks=callbacks)

    def clock_ahead(self, *, seconds: float) -> None:
        """At the boot the wall clock was ahead of the last time in the store, by more than a day."""
        self._log.warning("clock_ahead", seconds=round(seconds))

    def store_exchanged(self, *, path: str) -> None:
        """What a restore or a salvage that was cut off had left to do was done at this start."""
        self._log.warning("store_exchanged", path=path)

    def store_committed(self, *, seconds: float, rows: int) -> None:
        """A group of writes is durable. It is a line of the log when it took a second or longer."""
        self._metrics.store_commit.add(seconds)
        if seconds >= _SLOW_COMMIT_S:
            self._log.warning("store_slow", seconds=round(seconds, 3), rows=rows)

    def store_failed(self, *, error: BaseException) -> None:
        """A commit failed: nothing is acknowledged until the store has recovered. Each that tries again tells it."""
        left_out = self._repeated.left_out("store_failed", str(error), every_s=FAILED_S)
        if left_out is not None:
            self._log.error("store_failed", **describe(error), since_last_line=left_out)

    def store_recovered(self, *, seconds: float) -> None:
        """A probe commit succeeded after ``seconds`` of refusals; the next failure is news."""
        self._repeated.is_over("store_failed")
        self._log.info("store_recovered", seconds=round(seconds, 3))

    def callbacks_lost(self, *, platform: str, callbacks: Sequence[str]) -> None:
        """A failover of the store lost these, which had been answered 202."""
        if self._metrics.ownership is not None:
            self._metrics.ownership.lost[platform] += len(callbacks)
        self._log.error("callbacks_lost", platform=platform, count=len(callbacks), callbacks=list(callbacks[:100]))

    def server_replaced(self, *, platform: str, attempts: int) -> None:
        """Another server of the store answers; so many attempts that it lacked were written anew."""
        self._log.warning("server_replaced", platform=platform, attempts=attempts)

    def history_failed(self, *, error: Exception | None) -> None:
        """The history file of this host cannot be written: what ended stays on the server. None: it can be again."""
        if error is None:
            self._log.info("history_recovered")
        else:
            self._log.error("history_failed", **describe(error))

    def store_damaged(self, *, error: StoreDamaged) -> None:
        """What was asked of the store met a page that is not what was written to it."""
        self._metrics.store_damage[()] += 1
        left_out = self._repeated.left_out("store_damaged", every_s=DAMAGED_S)
        if left_out is not None:
            self._log.error("store_damaged", **describe(error), since_last_line=left_out)

    def spool_set_aside(self, *, posts: Mapping[int, str]) -> None:
        """These posts, by their numbers in the spool, cannot be brought into the store: kept there, and left out."""
        reasons = {str(number): why for number, why in list(posts.items())[:10]}
        self._log.error("spool_set_aside", count=len(posts), posts=reasons)

    def seal_broken(self, *, platform: str, callbacks: Sequence[str]) -> None:
        """The sealed payloads of these callbacks do not open: they are not sent, and held for a person."""
        self._metrics.unopened[platform,] += len(callbacks)
        self._log.error("seal_broken", platform=platform, count=len(callbacks), callbacks=list(callbacks[:10]))

    # --- alerts

    def alert_fires(self, *, rule: str, about: str, group: str) -> None:
        """A rule found something that people should know; who is told and when is another matter."""
        self._log.warning("alert_fires", rule=rule, about=about, group=group)

    def alert_resolved(self, *, rule: str, about: str, group: str) -> None:
        """It is so no more."""
        self._log.info("alert_resolved", rule=rule, about=about, group=group)

    def alert_sent(self, *, target: str, result: str, reason: str) -> None:
        """A message to a target came to an end: ``ok``, ``failed`` or ``dropped``, with the reason in our words."""
        self._metrics.alerts_sent[target, result] += 1
        tell = self._log.info if result == "ok" else self._log.error
        tell("alert_sent", target=target, result=result, reason=reason)

    def alert_retried(self, *, target: str, count: int) -> None:
        """A message to a target was sent ``count`` times more."""
        self._metrics.alerts_sent[target, "retried"] += count
        self._log.info("alert_retried", target=target, count=count)

    def alerts_not_kept(self, *, error: BaseException) -> None:
        """What was told cannot be read or written: a restart may tell it again."""
        self._log.error("alerts_not_kept", **describe(error))

    def alerts_failed(self, *, error: BaseException) -> None:
        """A round of the alerts raised: a bug; the next one tries again."""
        self._log.error("alerts_failed", **describe(error))

    def reconciled(self, *, platform: str, run: str, complete: bool, differences: int, error: str = "") -> None:
        """A comparison of both sides ended; with ``error`` it came to none. ``differences``: `unsettled` aside."""
        tell = self._log.info if complete else self._log.warning
        told = {"error": error} if error else {}
        tell("reconciled", platform=platform, run=run, complete=complete, differences=differences, **told)

    def log_of(self, part: str) -> LeveledLog:
        """Return the log for a part with events of its own, which are not the platforms'; its lines name the part."""
        return self._log.bind(part=part)

    # --- daemon

    def config_loaded(self, *, ok: bool, file: str, problems: Sequence[str] = ()) -> None:
        """A configuration was put in force, where ``problems`` are warnings, or refused because of them."""
        self._metrics.reload_successful = 1 if ok else 0
        if not ok:
            self._log.error("config_refused", file=file, problems=list(problems))
            return
        self._log.info("config_loaded", file=file)
        for problem in problems:
            self._log.warning("config_warning", file=file, problem=problem)

    def started(self, *, version: str, store: str, platforms: int) -> None:
        """The process runs and opens its store."""
        self._metrics.version = version
        self._log.info("started", version=version, store=store, platforms=platforms)

    def restart_delayed(self, *, seconds: float, failed: int) -> None:
        """The last ``failed`` starts did not end well, so this one waits ``seconds``."""
        self._log.warning("restart_delayed", seconds=seconds, failed=failed)

    def ready(self, *, listeners: Sequence[str], seconds: float) -> None:
        """Callbacks are accepted and delivered, ``seconds`` after the start."""
        self._log.info("ready", listeners=list(listeners), seconds=round(seconds, 3))

    def stopping(self, *, reason: str) -> None:
        """New requests are no longer accepted; those under way are finished."""
        self._log.info("stopping", reason=reason)

    def stopped(self, *, seconds: float, unfinished: int = 0) -> None:
        """Everything is closed. ``unfinished`` requests were cut off; they count as ambiguous."""
        self._log.info("stopped", seconds=round(seconds, 3), unfinished=unfinished)

    def failed(self, *, error: BaseException, exit_code: int) -> None:
        """The process ends because of ``error``: the last line of the log."""
        self._log.error("failed", exit_code=exit_code, **describe(error))

    def operation(self, *, number: int, action: str, state: str, matched: int, done: int, skipped: int = 0) -> None:
        """An operation over many callbacks started, went on or ended."""
        self._log.info(
            "operation", number=number, action=action, state=state, matched=matched, done=done, skipped=skipped
        )

    def audit(self, *, who: str, origin: str, action: str, target: str, reason: str, details: JsonObject) -> None:
        """A person changed or saw something; the store has the same record. ``details`` depend on the action."""
        self._log.info("audit", who=who, origin=origin, action=action, target=target, reason=reason, **details)

    # --- several hosts

    def platforms_owned(self, *, platforms: Sequence[str], reason: str, seconds: float) -> None:
        """This host sends for these platforms now; it took so long from the lease to the first claim."""
        if self._metrics.ownership is not None:
            self._metrics.ownership.takeovers[reason] += 1
        self._log.info("platforms_owned", platforms=list(platforms), reason=reason, seconds=round(seconds, 3))

    def platforms_closed(self, *, platforms: Sequence[str], reason: str, cut_off: int) -> None:
        """This host no longer sends for these platforms. ``cut_off`` requests were under way; they are ambiguous."""
        tell = self._log.warning if reason in ("lost", "expired") else self._log.info
        tell("platforms_closed", platforms=list(platforms), reason=reason, cut_off=cut_off)

    def fenced(self, *, platform: str, what: str) -> None:
        """The store refused a change because another host owns the platform now."""
        if self._metrics.ownership is not None:
            self._metrics.ownership.fenced += 1
        self._log.warning("fenced", platform=platform, what=what)

    def config_mismatch(self, *, digest: str, in_force: str, published_by: str) -> None:
        """This host's file is not the one in force, or (both are the same) is so again."""
        mismatch = digest != in_force
        if self._metrics.ownership is not None:
            self._metrics.ownership.mismatch = mismatch
        tell = self._log.error if mismatch else self._log.info
        tell(
            "config_mismatch" if mismatch else "config_matches",
            digest=digest,
            in_force=in_force,
            published_by=published_by,
        )

    def descriptors(self, *, used: int, most: int, low: bool, changed: bool) -> None:
        """``used`` of ``most`` file descriptors are in use.

        A log line when few are left (``low``), and when that is over.
        """
        self._metrics.descriptors = (used, most)
        if changed:
            tell = self._log.error if low else self._log.info
            tell("descriptors_low" if low else "descriptors_well", used=used, most=most)

    def watchdog_late(self, *, seconds: float, part: str) -> None:
        """The loop or the store's writer (``part``) answered late. If it hangs, systemd will restart the process."""
        self._log.warning("watchdog_late", seconds=round(seconds, 3), part=part)

    def spans_lost(self, *, count: int) -> None:
        """``count`` spans did not reach the OpenTelemetry receiver, or were more than could wait for it."""
        self._log.warning("spans_lost", count=count)
