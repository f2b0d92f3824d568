"""The metrics of SPEC 9, in a registry of their own.

What the store knows (totals, pending, limits) is read from it at a scrape, so nothing is counted twice or on the hot
path. What only passes (requests, durations, reasons) is counted here in plain dicts. All methods are called on the
event loop, except ``store_commit.add``, which a store's one writer thread may call.

Labels come from the configuration or from the fixed sets below. Any other word becomes ``other``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from relay.core.clock import elapsed_s
from relay.core.model import Outcome, seconds_text
from relay.core.quotas import CONFIGURED, quota_source
from relay.telemetry.flow import Flow, Flows
from relay.telemetry.histogram import ITEMS, LATENCY_S, REQUEST_S, SHORT_S, Histogram
from relay.telemetry.objective_figures import objective_figures
from relay.telemetry.ownership_figures import OwnershipFigures
from relay.views.ledger import QueueTotals
from relay.views.live import NOTHING_KNOWN, LiveFacts
from relay.views.past.history import RequestCounts
from relay.views.past.objective import ObjectiveView
from relay.views.queue import QueueFacts, QuotaUse, StoreSize

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

RESULTS = ("accepted", "delivered", "dead", "expired", "superseded")
REASONS = frozenset(
    (
        *("timeout", "reset", "truncated", "refused", "unreachable", "dns", "tls", "down", "crash"),
        *("throttled", "retry", "auth", "reject", "split", "confirm", "plain", "duplicate"),
        *("server_error", "client_error", "redirect", "status", "rule", "results", "invalid_answer"),
        *(
            "budget",
            "exhausted",
            "expired",
            "dropped",
            "operator",
            "resolved",
            "poison",
            "blocked",
            "too_large",
            "storm",
            "unbuildable",
            "unrouted",
            "no_group",
        ),
    )
)

# The platform answered no. All else but an acceptance is a failure: no answer, a server error, or one nobody knows.
_REFUSED = frozenset(("throttled", "auth", "reject", "split", "plain"))
_ACCEPTED = frozenset(outcome.value for outcome in Outcome if outcome.accepted)

Totals = Mapping[str, QueueTotals]
Statuses = Mapping[str, QueueFacts]
Live = Mapping[str, LiveFacts]


# Reasons of wire and policy that are not labels themselves.
_PHRASES = {
    "connection refused": "refused",
    "name not resolved": "dns",
    "tls failure": "tls",
    "connection reset": "reset",
    "answer truncated": "truncated",
    "answer is not http": "truncated",
    "retries used up": "exhausted",
    "rejected": "reject",
    "relay error": "crash",
    "no group": "no_group",
    "token": "auth",
}
_CODES = {"3": "redirect", "4": "client_error", "5": "server_error"}


def reason_label(reason: str) -> str:
    """Return a reason as a label: ``retries used up: timeout`` is ``exhausted``, an unknown one ``other``."""
    phrase = reason.partition(":")[0].strip().lower()
    word = _PHRASES.get(phrase) or phrase.partition(" ")[0]
    if word in REASONS:
        return word
    return _CODES.get(word[:1], "other") if len(word) == 3 and word.isdigit() else "other"


def code_class(status: int | None) -> str:
    """Return ``2xx`` and so on; ``none`` without an answer."""
    return f"{status // 100}xx" if status is not None and 100 <= status < 600 else "none"


DIFFERENCES: Final = (
    "missing", "unknown", "behind", "ahead", "conflict", "different", "duplicate", "stuck", "unsettled", "unreadable",
)  # fmt: skip
"""The kinds of difference, as ``reconcile`` names them."""


class Metrics:
    """Everything a scrape shows."""

    def __init__(self) -> None:
        self.duplicates: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.batch_bytes: Counter[tuple[str, str]] = Counter()
        self.retries: Counter[tuple[str, str]] = Counter()
        self.dead: Counter[tuple[str, str]] = Counter()
        self.dead_lately: Counter[tuple[str, str, str]] = Counter()  # also by whole reason; whoever reads it empties it
        self.late: Counter[str] = Counter()  # delivered later than the platform's objective allows
        self.unopened: Counter[tuple[str, ...]] = Counter()
        self.store_damage: Counter[tuple[str, ...]] = Counter({(): 0})  # what met a damaged page since the start
        self.refused: Counter[tuple[str, str]] = Counter()
        self.limits_learned: Counter[str] = Counter()
        self.token_failures: Counter[str] = Counter()
        self.tokens_lacking: set[str] = set()  # credentials whose endpoint gave none when asked last
        # When certificates end, since the epoch: by platform, its own ("server") and the one it is shown ("client")
        self.certificates: dict[str, dict[str, float]] = {}
        # By platform: when the last complete comparison ended, since the epoch, and its differences by kind
        self.reconciled: dict[str, tuple[float, Mapping[str, int]]] = {}
        self.alerts_sent: Counter[tuple[str, str]] = Counter()
        self.alerts_firing: Callable[[], Mapping[str, int]] = dict  # by rule; the daemon says who knows
        self.sse_clients: Callable[[], int] = int  # who follows the events; the admin listener says
        self.acceptors = 0  # processes that take posts in beside this one
        self.acceptors_ended = 0
        self.acceptors_lacking: Callable[[], str] = str  # says what is not well with them; ``daemon.doors`` sets it
        self.ownership: OwnershipFigures | None = None  # where several hosts share the store
        self.version = ""
        self.flows = Flows(elapsed_s())
        self.reload_successful: int | None = None
        self.descriptors: tuple[int, int] | None = None  # in use, and the limit
        self.expires_s: Mapping[str, float] = {}  # by platform: ``expires`` of the configuration in force
        self.objectives: Mapping[str, ObjectiveView] = {}  # how far they are kept, by platform
        self.batch_items = Histogram("relay_batch_items", "Callbacks per request.", ITEMS, label="platform")
        self.request_duration = Histogram(
            "relay_request_duration_seconds", "First byte sent to answer seen.", REQUEST_S, label="platform"
        )
        self.latency = Histogram(
            "relay_delivery_latency_seconds", "Accepted to delivered.", LATENCY_S, label="platform"
        )
        self._commit = Histogram("relay_store_commit_seconds", "Duration of store commits, fsync included.", SHORT_S)
        self.store_commit = self._commit.of()
        self._exported: dict[tuple[str, str], tuple[int, int]] = {}
        self._snapshot: tuple[Totals, Statuses, StoreSize | None, Live, float] = ({}, {}, None, {}, 0.0)
        self._process = ProcessCollector(namespace="relay", registry=None)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def snapshot(self, *, totals: Totals, statuses: Statuses, size: StoreSize | None, live: Live, now: float) -> None:
        """Take what the store and delivery say for the next ``render``.

        The arguments are the answers of ``Ledger.totals()``, ``platform_status()`` and ``size()``, what goes on at the
        platforms (``paused``, ``broken``), and the relay clock's time they were read at.
        """
        self._snapshot = (totals, statuses, size, live, now)

    def gate_changed(self, live: Live) -> None:
        """Take what goes on at the platforms alone: the store cannot say what lies there."""
        totals, statuses, size, _, now = self._snapshot
        self._snapshot = (totals, statuses, size, live, now)

    def flow(self, platform: str) -> Flow:
        """Return how many callbacks a second came in and went out over the last minute."""
        return self.flows.of(platform, elapsed_s())

    def request_counts(self) -> dict[str, RequestCounts]:
        """Return per platform the requests made and their bytes, since the process began."""
        made: dict[str, list[int]] = {}
        for (platform, outcome, _), count in self.requests.items():
            counted = made.setdefault(platform, [0, 0, 0])
            counted[0] += count
            counted[1] += count if outcome in _REFUSED else 0
            counted[2] += count if outcome not in _REFUSED and outcome not in _ACCEPTED else 0
        return {
            platform: RequestCounts(
                requests=requests,
                refused=refused,
                failed=failed,
                raw_bytes=self.batch_bytes[platform, "raw"],
                wire_bytes=self.batch_bytes[platform, "wire"],
                late=self.late[platform],
            )
            for platform, (requests, refused, failed) in made.items()
        }

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format (``CONTENT_TYPE``)."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing: names need no check against other collectors of this registry."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families; prometheus-client calls this."""
        totals, statuses, size, live, now = self._snapshot
        yield self._callbacks(totals)
        yield from self._queues(totals, statuses, live, now)
        yield from self._rates(statuses)
        yield _gauge(
            "relay_expires_seconds",
            "After how long callbacks expire that say nothing themselves.",
            "platform",
            self.expires_s,
        )
        yield from objective_figures(self.objectives)
        yield _counter(
            "relay_requests_total", "Requests to platforms.", ("platform", "outcome", "code_class"), self.requests
        )
        yield _counter("relay_batch_bytes_total", "Bytes of request bodies.", ("platform", "stage"), self.batch_bytes)
        yield _counter("relay_retries_total", "Callbacks to be sent again.", ("platform", "reason"), self.retries)
        yield _counter("relay_dead_letters_total", "Callbacks given up.", ("platform", "reason"), self.dead)
        yield _counter("relay_refused_total", "Requests refused by a listener.", ("listener", "code"), self.refused)
        yield _counter(
            "relay_sealed_unopened_total", "Callbacks held because they do not open.", ("platform",), self.unopened
        )
        yield _counter("relay_store_damage_total", "What met a damaged page of the store.", (), self.store_damage)
        learned = Counter({(platform,): count for platform, count in self.limits_learned.items()})
        yield _counter(
            "relay_limits_learned_total", "Limits found or changed that are not configured.", ("platform",), learned
        )
        failures = Counter({(credential,): count for credential, count in self.token_failures.items()})
        yield _counter("relay_token_failures_total", "Token endpoints that gave none.", ("credential",), failures)
        yield _counter("relay_alerts_sent_total", "Messages to alert targets.", ("target", "result"), self.alerts_sent)
        yield _gauge("relay_alerts_firing", "Alerts that fire.", "rule", self.alerts_firing())
        yield GaugeMetricFamily("relay_sse_clients", "Clients that follow GET /v1/events.", value=self.sse_clients())
        yield GaugeMetricFamily("relay_ingest_processes", "Processes that take posts in.", value=self.acceptors)
        ended = Counter({(): self.acceptors_ended})
        yield _counter("relay_ingest_processes_ended_total", "Such processes that ended by themselves.", (), ended)
        yield _gauge("relay_build_info", "Always 1; its label is the version.", "version", {self.version: 1})
        yield from self._certificate_ends()
        yield from self._reconciliations()
        yield self.batch_items.collect()
        yield self.request_duration.collect()
        yield self.latency.collect()
        yield self._commit.collect()
        if self.ownership is not None:
            yield from self.ownership.collect()
        if size is not None:
            yield from _store(size)
        if totals:
            yield GaugeMetricFamily(
                "relay_unaccounted", "Accepted minus every end and pending.", value=_missing(totals)
            )
        yield from (family for family in self._process.collect() if not family.name.endswith("_fds"))
        if self.descriptors is not None:  # counted beside: a scrape may come when none is left to count with
            used, most = self.descriptors
            yield GaugeMetricFamily("relay_process_open_fds", "File descriptors in use.", value=used)
            yield GaugeMetricFamily("relay_process_max_fds", "How many may be in use.", value=most)
        if self.reload_successful is not None:
            yield GaugeMetricFamily(
                "relay_config_last_reload_successful", "1 when the last load was used.", value=self.reload_successful
            )

    def _callbacks(self, totals: Totals) -> Metric:
        # A total falls by one when an operator retries a dead callback. A Prometheus counter must not fall: that looks
        # like a restart, and rate() jumps. So the exported number grows with each rise of the total and ignores falls.
        family = CounterMetricFamily("relay_callbacks_total", "Callbacks by result.", labels=("platform", "result"))
        for platform, counts in totals.items():
            for result in RESULTS:
                total: int = getattr(counts, result)
                last, exported = self._exported.get((platform, result), (0, 0))
                exported += max(0, total - last)
                self._exported[platform, result] = (total, exported)
                family.add_metric((platform, result), exported)
        for platform, count in self.duplicates.items():
            family.add_metric((platform, "duplicate"), count)
        return family

    def _queues(self, totals: Totals, statuses: Statuses, live: Live, now: float) -> Iterator[Metric]:
        pending = GaugeMetricFamily("relay_pending", "Callbacks without a final state.", labels=("platform",))
        in_flight = GaugeMetricFamily("relay_in_flight", "Callbacks in a request now.", labels=("platform",))
        oldest = GaugeMetricFamily(
            "relay_oldest_due_age_seconds",
            "How long the oldest pending callback could have been sent, held ones aside.",
            labels=("platform",),
        )
        held = GaugeMetricFamily("relay_held", "Callbacks that wait for a person.", labels=("platform",))
        breaker = GaugeMetricFamily("relay_breaker_open", "1 while the state is broken.", labels=("platform",))
        paused = GaugeMetricFamily("relay_paused", "1 while nothing is sent, by a person.", labels=("platform",))
        for platform in dict.fromkeys((*totals, *statuses, *live)):
            goes_on = live.get(platform, NOTHING_KNOWN)
            status = statuses.get(platform) or QueueFacts()
            counts = totals.get(platform)
            due_at = status.oldest_due_at
            pending.add_metric((platform,), status.pending if counts is None else counts.pending)
            in_flight.add_metric((platform,), status.in_flight)
            oldest.add_metric((platform,), max(0.0, now - due_at) if due_at is not None else 0.0)
            held.add_metric((platform,), status.held)
            breaker.add_metric((platform,), int(goes_on.broken))
            paused.add_metric((platform,), int(goes_on.paused))
        yield from (pending, in_flight, oldest, held, breaker, paused)

    def _certificate_ends(self) -> Iterator[Metric]:
        ends = GaugeMetricFamily(
            "relay_certificate_ends_timestamp_seconds",
            "When a TLS certificate ends: a platform's own (server), or the one it is shown (client).",
            labels=("platform", "whose"),
        )
        for platform, found in self.certificates.items():
            for whose, at in found.items():
                ends.add_metric((platform, whose), at)
        yield ends

    def _reconciliations(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "relay_reconcile_last_success_timestamp_seconds",
            "When the last complete comparison with the order center ended.",
            labels=("platform",),
        )
        differences = GaugeMetricFamily(
            "relay_reconcile_differences", "Orders that differed in it.", labels=("platform", "kind")
        )
        for platform, (at, counts) in self.reconciled.items():
            success.add_metric((platform,), at)
            for kind in DIFFERENCES:
                differences.add_metric((platform, kind), counts.get(kind, 0))
        yield from (success, differences)

    def _rates(self, statuses: Statuses) -> Iterator[Metric]:
        used = GaugeMetricFamily("relay_rate_used", "Slots taken in the window.", labels=("platform", "window"))
        limit = GaugeMetricFamily(
            "relay_rate_limit", "Requests allowed per window.", labels=("platform", "window", "kind")
        )
        others = GaugeMetricFamily(
            "relay_external_slots", "Slots that others than the relay took.", labels=("platform", "window")
        )
        for platform, status in statuses.items():
            taken_by_others: dict[str, int] = {}
            for quota in status.quotas:
                window = _window_label(quota)
                taken_by_others[window] = max(taken_by_others.get(window, 0), quota.uses.external)
            for window, count in taken_by_others.items():
                others.add_metric((platform, window), count)
            # A platform may have several quotas with the same window, such as its own and a shared one. A series may
            # appear only once: it is that of the quota with the fewest free slots, which is the one that holds.
            tightest: dict[tuple[str, str], tuple[int, int]] = {}
            for quota in status.quotas:
                at = (_window_label(quota), _limit_kind(quota.quota))
                found = (quota.limit, min(quota.used, quota.limit))
                held = tightest.get(at)
                if held is None or found[0] - found[1] < held[0] - held[1]:
                    tightest[at] = found
            windows: dict[str, tuple[int, int]] = {}
            for (window, kind), found in tightest.items():
                limit.add_metric((platform, window, kind), found[0])
                held = windows.get(window)
                if held is None or found[0] - found[1] < held[0] - held[1]:
                    windows[window] = found
            for window, (_, taken) in windows.items():
                used.add_metric((platform, window), taken)
        yield from (used, limit, others)


def _limit_kind(quota: str) -> str:
    """Return the label of a limit: ``configured``, or ``learned`` for every other source (SPEC 9 has two kinds)."""
    return "configured" if quota_source(quota) == CONFIGURED else "learned"


def _counter(name: str, documentation: str, labels: tuple[str, ...], counts: Counter[Any]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def _missing(totals: Totals) -> int:
    return sum(counts.unaccounted for counts in totals.values())


def _store(size: StoreSize) -> Iterator[Metric]:
    """Yield how much room the store uses."""
    yield GaugeMetricFamily("relay_store_bytes", "Size of the store on disk.", value=size.disk_bytes)
    yield GaugeMetricFamily(
        "relay_store_used_bytes", "Used pages, which decide when it is full.", value=size.used_bytes
    )
    yield GaugeMetricFamily(
        "relay_store_max_bytes",
        "store.max_size; posts may use it but for a reserve.",
        value=size.max_bytes,
    )
    yield GaugeMetricFamily("relay_store_full", "1 while posts are refused as store_full.", value=size.full)


def _window_label(quota: QuotaUse) -> str:
    """Return the label of a window: ``60s``, ``60s items``, ``day@+08:00``."""
    window = quota.calendar or seconds_text(quota.window_s)
    return window if quota.unit == "requests" else f"{window} {quota.unit}"
