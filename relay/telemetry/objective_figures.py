"""The metrics about objectives: what part of a platform's callbacks is in time, and what part should be."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from relay.views.past.objective import ObjectiveView


def objective_figures(kept: Mapping[str, ObjectiveView]) -> Iterator[Metric]:
    """Yield both metrics for each platform that has an objective."""
    ratio = GaugeMetricFamily(
        "relay_objective_ratio",
        "What part of the last hour's callbacks was delivered within the platform's objective.",
        labels=("platform",),
    )
    target = GaugeMetricFamily(
        "relay_objective_target_ratio", "What part the objective wants in time.", labels=("platform",)
    )
    for platform, view in kept.items():
        ratio.add_metric((platform,), view.ratio_1h)
        target.add_metric((platform,), view.share)
    yield from (ratio, target)
