"""Prints the table of docs/performance.md with this machine's figures.

``python -m benchmarks [--only 1,3] [--quick] [--peers] [--json FILE] [--dir DIRECTORY] [--keep]``. Everything runs as
processes on loopback over a SQLite file on a real disk, row 10 over a real Valkey too. A whole run takes about seven
minutes, ``--quick`` about two with less to say. ``--peers`` measures BullMQ and syslog-ng in the same turns, where they
are installed.

Exits 1 when a bar is not met, a figure could not be taken, or a ratio lost more than a tenth of the one kept in
``ratios.json``; ``--keep`` writes the new ratios there instead.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import ratios
from benchmarks.accept import bulk, shared, single
from benchmarks.backlog import backlog
from benchmarks.delivery import idle_latency, throughput
from benchmarks.machine import describe, workplace
from benchmarks.paced import limited
from benchmarks.peers import bullmq, syslog_ng
from benchmarks.processes import BenchmarkFailed
from benchmarks.table import Figure, show

_INSTALL = "`make bench-peers`, once as root, installs it"


def main() -> int:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="1,3", help="only these rows (and those measured with them)")
    parser.add_argument("--quick", action="store_true", help="shorter loads; 100,000 pending in place of 1,000,000")
    parser.add_argument("--peers", action="store_true", help="BullMQ and syslog-ng too, in the same turns")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here too; - for standard output")
    parser.add_argument("--dir", metavar="DIRECTORY", type=Path, help="where the store lies while it is measured")
    parser.add_argument("--keep", action="store_true", help="write the ratios to benchmarks/ratios.json")
    given = parser.parse_args()
    wanted = {int(number) for number in given.only.split(",")} if given.only else set(range(1, 11))
    if given.peers:
        for sentence in peers_missing():
            print(sentence, file=sys.stderr)
    figures: list[Figure] = []
    failed = False
    with workplace(given.dir) as directory:
        machine = describe(directory)
        for rows, measure in _measures(peers=given.peers).items():
            if not wanted.intersection(rows):
                continue
            print(f"measuring {', '.join(map(str, rows))} ...", file=sys.stderr, flush=True)
            try:
                figures += measure(directory, quick=given.quick)
            except (BenchmarkFailed, OSError) as error:
                failed = True
                print(f"rows {rows}: {error}", file=sys.stderr)
    told = {"machine": machine, "quick": given.quick, "figures": [figure.as_dict() for figure in figures]}
    if given.json == Path("-"):
        print(json.dumps(told, indent=2))
    else:
        print("machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()))
        print(show(figures))
        if given.json:
            given.json.write_text(json.dumps(told, indent=2) + "\n")
    kind, here = "quick" if given.quick else "full", ratios.ratios_of(figures)
    if given.keep:
        ratios.keep(kind, here, ratios.KEPT)
        fell = []
    else:
        fell = ratios.fallen(here, ratios.load(kind, ratios.KEPT))
    for sentence in fell:
        print(sentence, file=sys.stderr)
    return int(failed or bool(fell) or any(figure.met == "no" for figure in figures))


def peers_missing() -> list[str]:
    """Return a sentence for each peer that cannot be measured here."""
    found = {"rows 2 and 4b": bullmq.missing(), "row 4c": syslog_ng.missing()}
    return [f"{rows}: not measured, {absent}; {_INSTALL}" for rows, absent in found.items() if absent]


def _measures(*, peers: bool) -> dict[tuple[int, ...], Callable[..., list[Figure]]]:
    return {
        (1, 2): partial(single, peers=peers),
        (3,): bulk,
        (4,): partial(throughput, peers=peers),
        (5,): idle_latency,
        (6, 7): limited,
        (8, 9): backlog,
        (10,): shared,
    }


if __name__ == "__main__":
    sys.exit(main())
