"""Switches off one mechanism of the limit learner at a time, and prints what the score table loses by it.

    python -m benchmarks.limits.ablate [--only PATTERN]... [--rows PATTERN] [--trickles PATTERN] [--outages N] [--quick]

A mechanism that earns fewer than three rows of 125 in every column, and without which no outage is taken for a limit,
does not earn its lines. Modelled, in virtual time, as the score table is.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from fnmatch import fnmatch
from typing import Any

from relay.limits import search, tracker, violations
from relay.limits.evidence import correlation
from relay.limits.fit import candidates, families, likelihood
from relay.limits.fit.families import Family
from relay.limits.in_force import ceiling, limit, noise, outage, probing

from benchmarks.limits.outages import CHANGES, Change, false_limit, follow
from benchmarks.limits.platforms import NOISES
from benchmarks.limits.table import cases, score
from benchmarks.limits.trickle import trickle, trickles

Patch = tuple[Any, str, Any]  # whose attribute, its name, what stands there instead


def _never(*_: Any, **__: Any) -> bool:
    return False


def _always(*_: Any, **__: Any) -> bool:
    return True


def _nothing(*_: Any, **__: Any) -> Iterator[Any]:
    return iter(())


def _zero(*_: Any, **__: Any) -> float:
    return 0.0


def _no_effect(*_: Any, **__: Any) -> None:
    return None


def _first_argument(first: Any, *_: Any) -> Any:
    return first


_exact = candidates.Candidates.exact
_sliding = candidates.Candidates._sliding
_succeeded = probing.Prober._succeeded


def _without(family: Family) -> Callable[[Any], Iterator[Any]]:
    return lambda self: (each for each in _exact(self) if each.family is not family)


def _only_accepted(self: Any, arrivals: Any, n: int, spread: int) -> Any:
    return _sliding(self, arrivals, n, spread) if arrivals is self.accepted else None


def _keeps_step(probe: Any, now: float) -> None:
    step = probe.of.step
    _succeeded(probe, now)
    probe.of.step = step


MECHANISMS: dict[str, Sequence[Patch]] = {
    # what is asked of the evidence, and how the answers are weighed
    "counts that vary (others use the quota)": [(candidates.Candidates, "varying", _nothing)],
    "refused requests count too": [(candidates.Candidates, "_sliding", _only_accepted)],
    "fixed windows, aligned": [(candidates.Candidates, "exact", _without(Family.FIXED))],
    "fixed windows, from the first request": [(candidates.Candidates, "exact", _without(Family.FIRST_REQUEST))],
    "both kinds of fixed windows": [(candidates.Candidates, "_fixed", _nothing)],
    "token buckets": [(candidates.Candidates, "_buckets", _nothing)],
    "hints speak against sliding windows": [(candidates.Candidates, "against_hints", lambda *_: 0)],
    "phase of fixed windows from what was accepted": [(candidates, "starts_between", _nothing)],
    "windows people write are likelier": [(likelihood, "rarity", lambda *_: 0)],
    "a window that had to be just so costs": [(likelihood, "freedom", _zero), (families, "freedom", _zero)],
    "never more than twice the count in a window": [(likelihood, "_possible", _always)],
    "bounds narrowed by hints and reopenings": [(likelihood, "_narrowed", _first_argument)],
    "a lone refusal costs less": [(likelihood, "_NATS_FORGIVEN", 0.0)],
    "a long run that contradicts costs more": [(likelihood, "_EXCESS_NATS", 0.0)],
    "a bucket costs a nat": [(likelihood, "_BUCKET_NATS", 0.0)],
    # what is believed
    "refusals unrelated to the rate": [(correlation.Correlation, "is_absent", _never)],
    "runs as long as the bucket was filled": [(outage, "refill_runs", _zero)],
    "a bucket after 25 closures": [(outage, "_BUCKET_CLOSURES", 10**9)],
    "equal runs": [(outage, "equal_runs", _zero)],
    "separation": [(outage, "separation", _zero)],
    "short closures wait for more": [(outage, "_ENOUGH_SHORT", 0)],
    "what got through bounds what is found": [(search.Search, "allows_throughput", _always)],
    "a failed search waits for a quarter more": [(search, "_MANY_CLOSURES", 10**9)],
    "an unsure bucket is waited for": [(search.Search, "_unsure_bucket", _never)],
    "would foretell refusals anywhere": [(search.Search, "is_specific", _always)],
    # noise
    "requests refused by chance": [(noise.Noise, "noisy", False)],
    "lone refusals judged by their odds": [(noise.Noise, "beyond_noise", _always)],
    "a raise judged by lone refusals": [(noise.Noise, "raise_too_high", _never)],
    "accepted soon after: the refusal was chance": [(noise.Noise, "_refuted", _never)],
    "shorter windows tried once noise is seen": [(ceiling.Ceiling, "allow_shorter_windows", _no_effect)],
    # refusals although a limit is in force
    "an outage is not held against a limit": [(violations, "is_outage", _never)],
    "lone refusals together are a limit": [(violations.Violations, "_combine_lone", _never)],
    "one limit in place of all": [(violations.Violations, "_replace_limits", _never)],
    "one more limit beside": [(violations.Violations, "_add_limit", _never)],
    "a raise is taken back whole": [(ceiling.Ceiling, "undo_raise", _never)],
    "a window becomes the next one people write": [(ceiling.Ceiling, "_next_written", _zero)],
    "refused early: the window is longer": [(ceiling.Ceiling, "_refused_early", _never)],
    "a large cut after several small ones": [(ceiling, "_SLOWLY", 10**9)],
    "not below what got through": [(ceiling, "_FLOOR", 0.0)],
    "a pace where no limit explains": [(ceiling.Ceiling, "pace", _no_effect)],
    # care, and steps beyond
    "one request at a time near a young limit, and in a step": [(tracker.Tracker, "careful", _never)],
    "one request at a time near a young limit": [(ceiling.Ceiling, "young_and_nearly_used", _never)],
    "patience after a second refusal": [(tracker.Tracker, "patience_s", 0.0)],
    "a step that went well is followed by a larger one": [(probing.Prober, "_succeeded", staticmethod(_keeps_step))],
    "shorter windows tried of one that is believed": [(limit.LearnedLimit, "tries_shorter", False)],
    "a large step ends when the limit under it falls": [(probing.Prober, "end_if_large", _never)],
    "an accepted request refutes a step's refusal": [(probing.Probe, "miss_was_noise", _never)],
}
_WIDTH = max(map(len, MECHANISMS)) + 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits.ablate", description="Earns each its lines?")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="mechanisms to switch off")
    parser.add_argument("--together", action="store_true", help="all of these at once instead of one at a time")
    parser.add_argument("--rows", default="*", metavar="PATTERN", help="rows of the table, as in 'sliding/60s/*'")
    parser.add_argument("--trickles", default="", metavar="PATTERN", help="rows of trickle.py, as in '*/60s/*/1.2'")
    parser.add_argument("--outages", type=int, default=100, help="seeded outages to try")
    parser.add_argument("--changes", action="store_true", help="limits that begin or change, too")
    parser.add_argument("--quick", action="store_true", help="three windows, one signal per family")
    options = parser.parse_args(arguments)
    names = [name for name in MECHANISMS if any(fnmatch(name, pattern) for pattern in options.only or ["*"])]
    groups = [(), tuple(names)] if options.together else [(), *((name,) for name in names)]
    print("rows within the bars; false: outages of which a limit was learned; errors: rows that failed")
    print(f"{'switched off':{_WIDTH}}" + "".join(f"{title[:9]:>10}" for title in (*NOISES, *_OTHERS)))
    for group in groups:
        begin = time.perf_counter()
        counts = _counts(group, options)
        title = "nothing" if not group else group[0] if len(group) == 1 else f"{len(group)} together"
        row = "".join(f"{counts[title]:10d}" for title in (*NOISES, *_OTHERS))
        print(f"{title:{_WIDTH}}{row}   {time.perf_counter() - begin:.0f} s", flush=True)
    return 0


_OTHERS = ("trickles", "changes", "false", "errors")


def _counts(group: Sequence[str], options: argparse.Namespace) -> dict[str, int]:
    """Return how many rows are within the bars by column, with the mechanisms of ``group`` switched off."""
    counts = dict.fromkeys((*NOISES, *_OTHERS), 0)
    runs: list[tuple[str, Future[bool]]] = []
    with ProcessPoolExecutor(initializer=_switch_off, initargs=(group,)) as pool:
        for case in cases(quick=options.quick):
            if case.window_s <= 300 and fnmatch(case.name, options.rows):
                runs.append((case.noise, pool.submit(_row, case)))
        for fed in trickles():
            if fnmatch(fed.name, options.trickles):
                runs.append(("trickles", pool.submit(_fed, fed)))
        if options.changes:
            for change in CHANGES:
                for family in ("sliding", "fixed", "bucket"):
                    for signal in ("429", "408-5s", "refused"):
                        runs.append(("changes", pool.submit(_changed, change, family, signal)))
        for seed in range(options.outages):
            runs.append(("false", pool.submit(_false, seed)))
    for column, run in runs:
        counts["errors" if run.exception() is not None else column] += run.exception() is not None or run.result()
    return counts


def _switch_off(group: Sequence[str]) -> None:
    for name in group:
        for owner, attribute, value in MECHANISMS[name]:
            setattr(owner, attribute, value)


def _row(case: Any) -> bool:
    return score(case).passes()


def _fed(case: Any) -> bool:
    return trickle(case).passes()


def _changed(change: Change, family: str, signal: str) -> bool:
    return follow(change, family=family, signal=signal).passes()


def _false(seed: int) -> bool:
    return bool(false_limit(seed))


if __name__ == "__main__":
    sys.exit(main())
