"""What metrics tell of ownership, where several hosts share the store; without one there are none of these series."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from relay.telemetry.histogram import SHORT_S, Histogram
from relay.views.queue import HistorySize


class OwnershipFigures:
    """Counts of this host, and its leases: ``leases`` tells of each platform how old ours is; None: it is not ours.

    ``spooled`` tells how many callbacks wait here because the store was away, ``history`` how much the history file
    holds; None: there is none. ``set_aside`` tells how many posts of the spool cannot be brought in.
    """

    def __init__(
        self,
        leases: Callable[[], Mapping[str, float | None]],
        spooled: Callable[[], int],
        history: Callable[[], HistorySize | None],
        set_aside: Callable[[], int],
    ) -> None:
        self._leases = leases
        self._spooled = spooled
        self._history = history
        self._set_aside = set_aside
        self.takeovers: Counter[str] = Counter()  # by reason
        self.fenced = 0
        self.lost: Counter[str] = Counter()  # by platform: accepted here, and not there after a failover
        self.mismatch = False
        self._round_trip = Histogram(
            "relay_store_round_trip_seconds", "From the sending of a beat to the shared store to its answer.", SHORT_S
        )
        self.round_trip = self._round_trip.of()

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        owner = GaugeMetricFamily("relay_owner", "1 while this host sends for the platform.", labels=("platform",))
        lease = GaugeMetricFamily(
            "relay_lease_seconds",
            "Since when the lease of a platform of this host was not renewed; sending stops at 9.",
            labels=("platform",),
        )
        for platform, age_s in self._leases().items():
            owner.add_metric((platform,), int(age_s is not None))
            if age_s is not None:
                lease.add_metric((platform,), age_s)
        yield from (owner, lease)
        takeovers = CounterMetricFamily(
            "relay_takeovers_total", "Components that this host began to send for.", labels=("reason",)
        )
        for reason, count in self.takeovers.items():
            takeovers.add_metric((reason,), count)
        yield takeovers
        lost = CounterMetricFamily(
            "relay_lost_callbacks_total",
            "Callbacks answered 202 that a failover of the store lost.",
            labels=("platform",),
        )
        for platform, count in self.lost.items():
            lost.add_metric((platform,), count)
        yield lost
        yield CounterMetricFamily(
            "relay_fenced_total", "Changes refused because another host owns the platform.", value=self.fenced
        )
        yield GaugeMetricFamily(
            "relay_config_mismatch", "1 while this host's file is not the one in force.", value=int(self.mismatch)
        )
        yield GaugeMetricFamily(
            "relay_spool_callbacks",
            "Callbacks that wait on this host because the store was away.",
            value=self._spooled(),
        )
        held = self._history()
        if held is not None:
            yield GaugeMetricFamily(
                "relay_history_callbacks", "Callbacks in the history file of this host.", value=held.callbacks
            )
            yield GaugeMetricFamily(
                "relay_history_bytes", "Room of the history file of this host on its disk.", value=held.disk_bytes
            )
        yield GaugeMetricFamily(
            "relay_spool_set_aside",
            "Posts in the spool of this host that cannot be brought into the store.",
            value=self._set_aside(),
        )
        yield self._round_trip.collect()
