"""Prints the score table: modelled, not measured.

    python -m benchmarks.limits [--quick] [--only PATTERN]... [--peers] [--no-outages] [--failing] [--seed N]

A pattern is matched against FAMILY/WINDOW/SIGNAL/NOISE, as in ``sliding/60s/*/clean``. Exits 1 when a bar is missed.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from functools import partial

from benchmarks.limits.outages import CHANGES, Change, Followed, false_limit, follow
from benchmarks.limits.platforms import NOISES
from benchmarks.limits.table import BARS, SENDERS, Score, cases, score

_HEAD = f"{'family/window/signal/noise':44}{'goodput':>8}{'rej/h':>8}{'early':>7}{'converged':>11}  learned"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; return 0 when every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description="Score the limit estimator.")
    parser.add_argument("--quick", action="store_true", help="three windows, one signal per family")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases to run, as in 'sliding/60s/*/clean'")
    parser.add_argument("--peers", action="store_true", help="also AIMD, cubic, SRE throttling and fixed retry")
    parser.add_argument("--no-outages", action="store_true", help="leave outages and changing limits out")
    parser.add_argument("--failing", action="store_true", help="print only the rows that miss a bar")
    parser.add_argument("--seed", type=int, default=1, help="another draw of every random number; tuned on 1 to 3")
    options = parser.parse_args(arguments)
    patterns = options.only or ["*"]
    chosen = [case for case in cases(quick=options.quick) if any(fnmatch(case.name, pattern) for pattern in patterns)]
    print("modelled, not measured: virtual time, an endless backlog, 4 requests under way, answers in 50 ms")
    print(
        "goodput: part of N/(W + answer); shared: of four fifths of it, or of what the largest count carries that is\n"
        "refused rarely; failures: of what the relay carries that knows the limit: each that looks like one stops it"
    )
    print("rej/h: after 3 windows or 5 minutes; early: between the first two windows and then\n")
    missed = 0
    with ProcessPoolExecutor() as pool:
        print(_HEAD)
        rows = list(pool.map(partial(score, seed=options.seed), chosen, chunksize=4))
        for row in rows:
            missed += not row.passes()
            if not (options.failing and row.passes()):
                print(_line(row))
        _summary(rows)
        if options.peers:
            for name in SENDERS:
                if name != "relay":
                    _summary(list(pool.map(partial(score, sender_name=name, seed=options.seed), chosen, chunksize=4)))
        if not options.no_outages:
            tried = 20 if options.quick else 100
            first = (options.seed - 1) * 100
            found = [text for text in pool.map(false_limit, range(first, first + tried)) if text]
            print(f"\nfalse limits in {tried} outages: {len(found)}", *found, sep="\n  ")
            missed += bool(found)
            print("\nlimits that begin or change after an hour (the fifth hour)")
            runs = [
                (change, family, signal)
                for change in CHANGES
                for family in ("sliding", "fixed", "bucket")
                for signal in ("429", "408-5s", "refused")
            ]
            for (change, family, signal), followed in zip(
                runs, pool.map(partial(_follow, seed=options.seed), runs), strict=True
            ):
                print(
                    f"{change.name:32}{family:9}{signal:9}{followed.goodput:8.3f}{followed.rejects_per_hour:8.1f}"
                    f"  {followed.learned}"
                )
    print(f"\n{missed} bars missed of {len(chosen)} cases" if missed else "\nall bars met")
    return 1 if missed else 0


def _follow(run: tuple[Change, str, str], *, seed: int) -> Followed:
    change, family, signal = run
    return follow(change, family=family, signal=signal, seed=seed)


def _line(row: Score) -> str:
    mark = " " if row.passes() else "*"
    return (
        f"{row.case.name:44}{row.goodput:8.3f}{row.rejects_per_hour:8.1f}{row.early_rejects:7d}"
        f"{row.converged_s:10.0f}s{mark} {row.learned}"
    )


def _summary(rows: Sequence[Score]) -> None:
    """Print medians per noise, and how many rows meet the bars."""
    if not rows:
        return
    print(f"\n{rows[0].sender}: goodput median and worst, rejects/h median and worst, rows within the bars")
    for noise in NOISES:
        mine = [row for row in rows if row.case.noise == noise and row.case.window_s <= 300]
        if mine:
            goodputs = [row.goodput for row in mine]
            rejects = [row.rejects_per_hour for row in mine]
            bar = BARS[noise == "clean"]
            print(
                f"  {noise:10}{statistics.median(goodputs):7.3f}{min(goodputs):7.3f}"
                f"{statistics.median(rejects):9.1f}{max(rejects):9.1f}"
                f"   {sum(row.passes() for row in mine)}/{len(mine)} (>= {bar[0]}, <= {bar[1]:g}/h)"
            )


if __name__ == "__main__":
    sys.exit(main())
