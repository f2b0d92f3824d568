"""The runs of one platform that are kept, each in a folder below the state directory; 90 days."""

import re
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from relay.core.errors import RelayError
from relay.reconcile.repairing import Repair
from relay.reconcile.report.folder import SUMMARY, Mask, RunFolder
from relay.reconcile.results import RunSummary, VerifiedOrder
from relay.reconcile.whole_files import write_whole

_REPAIRS = "repairs.json"
_VERIFIED = "verified.json"
_TREND = 30
_RUN = re.compile(r"[0-9]{8}T[0-9]{9}Z")  # other folders are somebody else's


class PastRuns:
    """What is kept of a platform's runs; ``kept`` None: nothing."""

    def __init__(self, kept: Path | None) -> None:
        self._kept = kept

    def new_folder(self, run: str, *, mask: Mask | None = None) -> Sequence[RunFolder]:
        """Return the folder of a new run, if it can be kept."""
        return () if self._kept is None else (RunFolder(self._kept / run, run, mask=mask),)

    def keep_failure(self, summary: RunSummary) -> None:
        """Keep that a run failed."""
        (folder,) = self.new_folder(summary["run"])
        with folder:
            folder.end(summary, self.trend())

    def runs(self) -> list[str]:
        """Return the runs that came to an end, oldest first."""
        named = () if self._kept is None else (file.parent.name for file in self._kept.glob(f"*/{SUMMARY}"))
        return sorted(name for name in named if _RUN.fullmatch(name))

    def summary(self, run: str) -> RunSummary | None:
        """Return a run's summary; None where there is none, or what is there is damaged."""
        found: RunSummary | None = self._read(run, SUMMARY)
        return found

    def whole(self, run: str) -> RunSummary | None:
        """Return a run with its differences; None as of ``summary``."""
        found: RunSummary | None = self._read(run, "run.json")
        return found

    def trend(self) -> list[RunSummary]:
        """Return the summaries of the last runs, oldest first; with the one under way they are 30."""
        found = [self.summary(run) for run in self.runs()[-_TREND + 1 :]]
        return [summary for summary in found if summary is not None]

    def to_verify(self, run: str | None) -> tuple[str | None, list[Repair]]:
        """Return the run whose repairs are to be looked at, and these.

        Without ``run`` it is the last one that repaired anything and was not verified. Raises ``RelayError`` where the
        named one repaired nothing.
        """
        if run is not None:
            if self._kept is None or not (self._kept / run / _REPAIRS).exists():
                raise RelayError(f"run {run} repaired nothing here, so there is nothing to verify")
            return run, self._repairs(run)
        for earlier in reversed(self.runs()):
            assert self._kept is not None, "there are runs"
            folder = self._kept / earlier
            if (folder / _REPAIRS).exists():
                return (None, []) if (folder / _VERIFIED).exists() else (earlier, self._repairs(earlier))
        return None, []

    def since(self, run: str) -> float | None:
        """Return from when on a run compared; None where nobody knows."""
        summary = self.summary(run)
        return None if summary is None else datetime.fromisoformat(str(summary["since"])).timestamp()

    def keep_repairs(self, run: str, repairs: Sequence[Repair]) -> None:
        """Keep what a run repaired."""
        if self._kept is not None and repairs:
            write_whole(self._kept / run / _REPAIRS, msgspec.json.encode(repairs))

    def keep_verified(self, of: str, run: str, results: Sequence[VerifiedOrder]) -> None:
        """Keep what a later run says of a run's repairs."""
        if self._kept is not None:
            write_whole(self._kept / of / _VERIFIED, msgspec.json.encode({"run": run, "verified": results}))

    def prune(self, before: str) -> None:
        """Delete the runs named before ``before``: a run's name is the time of its start."""
        if self._kept is None:
            return
        for folder in self._kept.iterdir():
            if folder.is_dir() and folder.name < before:
                shutil.rmtree(folder)

    def _repairs(self, run: str) -> list[Repair]:
        found: list[Repair] | None = self._read(run, _REPAIRS, list[Repair])
        return found or []

    def _read(self, run: str, name: str, kind: Any = Any) -> Any:
        file = None if self._kept is None else self._kept / run / name
        if file is None or not file.is_file():
            return None
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except msgspec.DecodeError:
            return None
