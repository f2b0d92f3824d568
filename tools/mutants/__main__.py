"""Plants faults one at a time into a copy of the tree, and tells which of them the tests notice (see README.md)."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tools.mutants.faults import ROOT, Fault, read_faults, stale

_COPIED = ("relay", "tests", "benchmarks", "tools", "docs", "systemd", "pyproject.toml", "config.yaml", "README.md")
_ALSO = ("relay.schema.json", "Makefile", "constraints.txt", "CHANGELOG.md", "README.zh-CN.md")
_BAR = 0.95  # of the faults must be noticed, and every serious one
_HUNG_S = 300.0  # a run that takes longer hangs, which somebody would notice
_TEST_HUNG_S = 60  # and so does a test; the suite lets it take longer on a busy machine
_BASELINE_S = 3600.0  # for the tests of all faults at once, without any of these
_SECONDS: dict[Fault, int] = {}  # each fault's own
_FAILED, _BROKEN = 1, 2  # pytest's exit codes of tests that failed and of modules that cannot be imported


def main() -> int:
    """Run what the command line asks for; return 0 when enough was noticed."""
    asked = _arguments()
    faults = read_faults()
    if wrong := stale(faults):
        print("stale faults, mend or remove them:", *wrong, sep="\n  ")
        return 1
    chosen = [fault for fault in faults if fault.package in (asked.package or fault.package)]
    chosen = [fault for fault in chosen if all(word in fault.name for word in asked.only)]
    if not chosen:
        print("no fault in the list is of that package and has those words in its name")
        return 1
    if asked.sample:
        random.Random(asked.seed).shuffle(chosen)
        chosen = chosen[: asked.sample]
        print(f"a sample of {len(chosen)}, seed {asked.seed}")
    copies: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="relay-mutants-") as directory:
        for number in range(asked.jobs):
            copies.put(_copy(Path(directory) / str(number)))
        if not asked.sample and (broken := _broken(copies, chosen, asked.jobs)):
            print("these tests fail without any fault, so that they prove nothing:", broken, sep="\n")
            return 1

        def try_one(fault: Fault) -> bool:
            copy = copies.get()
            try:
                began = time.monotonic()  # noqa: TID251 - this is no part of the relay
                noticed = _noticed(copy, fault, whole=asked.all)
                took = time.monotonic() - began  # noqa: TID251
                print(f"{'noticed' if noticed else 'MISSED ':8} {took:5.1f} s  {fault.name}", flush=True)
                return noticed
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(asked.jobs) as workers:
            outcomes = list(workers.map(try_one, chosen))
    return _report(list(zip(chosen, outcomes, strict=True)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("--all", action="store_true", help="what its own tests miss meets the whole suite")
    parser.add_argument("--package", action="append", help="only faults of this package; may be repeated")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only those with WORD in the name")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them, chosen by the seed")
    parser.add_argument(
        "--seed", default="0", help="which sample, such as the commit; the same seed is the same sample"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many at once")
    return parser.parse_args()


def _copy(to: Path) -> Path:
    to.mkdir()
    for name in (*_COPIED, *_ALSO):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)
    return to


def _pytest(
    copy: Path, tests: Iterable[str], *, at_once: int = 0, within_s: float = _HUNG_S, test_within_s: int | None = None
) -> tuple[int, str]:
    """Run tests in a copy, so many at once; return pytest's exit code and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", str(at_once), *(f"tests/{test}" for test in tests)]
    if test_within_s is not None:
        command += ["--timeout", str(test_within_s)]
    environ = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command, cwd=copy, env=environ, capture_output=True, text=True, timeout=within_s, check=False
        )
    except subprocess.TimeoutExpired:
        return _FAILED, "it hangs"
    return done.returncode, done.stdout + done.stderr


def _broken(copies: "SimpleQueue[Path]", faults: list[Fault], jobs: int) -> str:
    """Return what pytest says where the faults' tests fail without any fault."""
    copy = copies.get()
    tests = sorted({test for fault in faults for test in fault.tests})
    code, output = _pytest(copy, tests, at_once=jobs if jobs > 1 else 0, within_s=_BASELINE_S)
    copies.put(copy)
    return output if code else ""


def _noticed(copy: Path, fault: Fault, *, whole: bool) -> bool:
    path = copy / "relay" / fault.file
    original, written_at = path.read_text(encoding="utf-8"), path.stat().st_mtime
    _write(path, fault.planted(original), written_at + 1 + _SECONDS.setdefault(fault, len(_SECONDS)))
    try:
        code, output = _pytest(copy, fault.tests, test_within_s=_TEST_HUNG_S)
        if code == 0 and whole:
            code, output = _pytest(copy, [""])
    finally:
        _write(path, original, written_at)
    if code not in (0, _FAILED, _BROKEN):
        raise RuntimeError(f"{fault.name}: pytest ended with {code}:\n{output}")
    return code != 0


def _write(path: Path, text: str, at: float) -> None:
    """Write a file as of ``at``: Python tells by size and second whether what it compiled before is still good."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (at, at))


def _report(outcomes: list[tuple[Fault, bool]]) -> int:
    print("\n| package | faults | noticed | missed |", "|---|---|---|---|", sep="\n")
    for package in sorted({fault.package for fault, _ in outcomes}):
        found = [noticed for fault, noticed in outcomes if fault.package == package]
        print(f"| {package} | {len(found)} | {sum(found)} | {len(found) - sum(found)} |")
    total = sum(noticed for _, noticed in outcomes)
    print(f"| **all** | {len(outcomes)} | {total} | {len(outcomes) - total} |")
    missed = [fault for fault, noticed in outcomes if not noticed]
    for fault in missed:
        print(f"missed{' (serious)' if fault.serious else ''}: {fault.name}")
    enough = bool(outcomes) and total >= _BAR * len(outcomes) and not any(fault.serious for fault in missed)
    print(f"{total} of {len(outcomes)} noticed: {'enough' if enough else 'NOT ENOUGH'}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
