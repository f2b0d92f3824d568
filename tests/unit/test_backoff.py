"""Waits before re-sends."""

import random

import pytest
from relay.policy.backoff import backoff_s


class Fixed(random.Random):
    """Draws the same share of every interval."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def random(self) -> float:
        """Return the share."""
        return self.share


@pytest.mark.parametrize(
    ("n", "ceiling_s"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 512), (10, 600), (11, 600), (10**6, 600), (10**400, 600)]
)
def test_schedule(n: int, ceiling_s: float) -> None:
    """d = min(cap, base * 2^(n-1)), drawn from d/2 to d; a huge n costs nothing and does not overflow."""
    assert backoff_s(n, base_s=2, cap_s=600, rng=Fixed(0.0)) == ceiling_s / 2
    assert backoff_s(n, base_s=2, cap_s=600, rng=Fixed(1.0)) == ceiling_s


def test_fractions_and_a_base_above_the_cap() -> None:
    """Any positive base works; one above the cap waits the cap."""
    assert backoff_s(3, base_s=0.05, cap_s=60, rng=Fixed(1.0)) == pytest.approx(0.2)
    assert backoff_s(1, base_s=100, cap_s=60, rng=Fixed(1.0)) == 60
    assert backoff_s(5000, base_s=1e-300, cap_s=60, rng=Fixed(1.0)) == 60


def test_counting_from_one() -> None:
    """There is no re-send number 0."""
    with pytest.raises(ValueError, match="from 1"):
        backoff_s(0, base_s=1, cap_s=2, rng=Fixed(0.0))
