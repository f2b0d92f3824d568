"""The whole daemon in virtual time: a few seeds hold, a seed repeats itself, and planted faults are found.

``make hunt`` runs seeds until stopped; ``make hunt HUNT="--seeds 1000"`` so many.
"""

import pytest
from tests.simulation.faults import FAULTS
from tests.simulation.hunt import run


@pytest.mark.parametrize("seed", range(1, 9))
def test_every_promise_holds(seed: int) -> None:
    """Crashes, power cuts, a failing disk, clock steps and platforms on a bad day: I1 to I15 hold."""
    assert run(seed).findings == []


def test_a_seed_repeats_itself() -> None:
    """Two runs of a seed see the same at the same moments, to the last id."""
    assert run(3).trace == run(3).trace


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    """What somebody could break one day breaks an invariant that a seed shows."""
    plant, invariant, seeds = FAULTS[fault]
    with plant():
        assert any(f": {invariant} " in finding for seed in seeds for finding in run(seed).findings)
