"""Which window people would have meant: limits are written per minute, not per 58.3 s."""

from math import ceil, floor, log10, sqrt

# The fewer the tier, the more often platforms write it (platform documentation, 2024-2026).
_TIERS: tuple[tuple[float, ...], ...] = (
    (1, 10, 60, 300, 600, 900, 3600, 86400),
    (2, 5, 15, 30, 120, 1800, 7200, 21600, 43200),
    (
        *(3, 4, 6, 8, 12, 20, 25, 40, 45, 50, 90, 100, 150, 180, 200, 240, 360, 400, 450, 480, 500, 720),
        *(1000, 1200, 1500, 2400, 2700, 5400, 10800, 14400, 28800),
    ),
)
WRITTEN = tuple(sorted(float(window_s) for tier in _TIERS[:2] for window_s in tier))
"""The windows people write most."""
SHORTEST_S = 0.5  # no platform counts in shorter windows; what looks like one is noise
_TOLERANCE = 0.005  # of the window: a bound that is wrong by more is wrong for another reason
CLOSE = 1.04  # bounds this near each other: the upper one is taken, which costs 4 % at the most


def is_common(window_s: float) -> bool:
    """Say whether people write such a window."""
    return any(window_s in tier for tier in _TIERS)


def rarity(window_s: float) -> int:
    """Return how rarely people write such a window: from 0, every day, to 3, never."""
    return next((place for place, tier in enumerate(_TIERS) if window_s in tier), len(_TIERS))


def common_between(low_s: float, high_s: float) -> list[float]:
    """Return the windows people write that lie in (low_s, high_s]."""
    return [float(window_s) for tier in _TIERS for window_s in tier if low_s < window_s <= high_s * 1.005]


def choose(low_s: float, high_s: float, slack_s: float = 0.0) -> float:
    """Return the window to try between one that is too short and one that is long enough, as far as is known.

    ``slack_s`` is by how much the bounds may be wrong: requests are timed when they are sent, not when they arrive.
    """
    least_s = low_s - min(slack_s, _TOLERANCE * low_s)
    for tier in _TIERS:
        for window_s in sorted(tier):
            if least_s < window_s <= high_s * 1.005:
                return float(window_s)
    if high_s <= low_s * CLOSE or low_s <= 0.0:  # or nothing bounds it from below
        return rounded_up(high_s)
    return rounded_up(sqrt(low_s * high_s))


def rounded_up(window_s: float) -> float:
    """Return it with three digits, not shorter."""
    unit = 10.0 ** (floor(log10(max(window_s, 1e-3))) - 2)
    return round(ceil(window_s / unit - 1e-9) * unit, 6)
