"""Compares the ratios of a run with those that are kept in ``ratios.json``, and says what fell."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.table import BY_NUMBER, Figure

KEPT = Path(__file__).with_name("ratios.json")
_MOST_LOST = 0.1  # in turns on a machine with other work, the same code differs by a twentieth
_RATIO = "x"


def ratios_of(figures: Sequence[Figure]) -> dict[str, float]:
    """Return the rows that are ratios; the others are times and sizes of one machine."""
    return {each.number: each.here for each in figures if BY_NUMBER[each.number].unit == _RATIO}


def fallen(ratios: Mapping[str, float], kept: Mapping[str, float]) -> list[str]:
    """Return a sentence for each ratio that lost more than a tenth of the kept one."""
    lost = {number: 1 - here / kept[number] for number, here in ratios.items() if number in kept}
    return [
        f"row {number} ({BY_NUMBER[number].what}) fell by {share:.0%}: {ratios[number]:.2f}x, kept is "
        f"{kept[number]:.2f}x. Measure it again with --only {number.rstrip('abc')}; if it stays, find the commit that "
        "costs it, or keep the new figure with --keep"
        for number, share in lost.items()
        if share > _MOST_LOST
    ]


def load(kind: str, file: Path) -> dict[str, float]:
    """Return the ratios that are kept of runs of this kind, ``full`` or ``quick``."""
    kept: dict[str, dict[str, float]] = json.loads(file.read_text())
    return kept.get(kind, {})


def keep(kind: str, ratios: Mapping[str, float], file: Path) -> None:
    """Put ``ratios`` in the place of those kept of the same rows."""
    kept: dict[str, dict[str, float]] = json.loads(file.read_text())
    rounded = {number: round(here, 3) for number, here in ratios.items()}
    kept[kind] = dict(sorted((kept.get(kind, {}) | rounded).items()))
    file.write_text(json.dumps(kept, indent=2) + "\n")
