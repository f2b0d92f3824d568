"""Prints the table of SPEC 10 with this machine's figures.

``python -m benchmarks [--only 1,3] [--quick] [--json FILE] [--dir DIRECTORY]``. Everything runs as processes on
loopback over a SQLite file on a real disk; a whole run takes about six minutes, ``--quick`` about two with less to say.
Exits 1 when a bar is not met or a figure could not be taken.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.accept import bulk, single
from benchmarks.backlog import backlog
from benchmarks.delivery import idle_latency, throughput
from benchmarks.machine import describe, workplace
from benchmarks.paced import limited
from benchmarks.processes import BenchmarkFailed
from benchmarks.table import Figure, show

_MEASURE: dict[tuple[int, ...], Callable[..., list[Figure]]] = {
    (1, 2): single,
    (3,): bulk,
    (4,): throughput,
    (5,): idle_latency,
    (6, 7): limited,
    (8, 9): backlog,
}


def main() -> int:
    """Measure what is asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="1,3", help="only these rows (and those measured with them)")
    parser.add_argument("--quick", action="store_true", help="shorter loads; 100,000 pending in place of 1,000,000")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here too; - for standard output")
    parser.add_argument("--dir", metavar="DIRECTORY", type=Path, help="where the store lies while it is measured")
    given = parser.parse_args()
    wanted = {int(number) for number in given.only.split(",")} if given.only else set(range(1, 10))
    figures: list[Figure] = []
    failed = False
    with workplace(given.dir) as directory:
        machine = describe(directory)
        for rows, measure in _MEASURE.items():
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
    return int(failed or any(figure.met == "no" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
