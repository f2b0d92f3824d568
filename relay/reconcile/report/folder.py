"""Writes a run into a folder as it is found: ``differences.csv``, ``run.json`` and, at the end, ``report.html``."""

import csv
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from relay.reconcile.report.html_report import page
from relay.reconcile.results import DifferenceLine, RunSummary, VerifiedOrder
from relay.reconcile.whole_files import part_of, private, put_in_place

SUMMARY = "summary.json"
_FILES = ("differences.csv", "run.json", "report.html", SUMMARY)
_SHOWN = 500  # of each kind, on the page
_COLUMNS = (
    "run", "kind", "key", "why", "order_center_status", "order_center_at", "platform_status", "platform_at", "relay_id",
    "relay_state", "relay_at", "relay_reason", "proposal", "first_seen", "runs",
)  # fmt: skip
Mask = Callable[[str], str]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would work out (OWASP, CSV injection)


class RunFolder:
    """One run's files, mode 0600; a context manager. Each takes its name when it is whole; a failed run leaves none."""

    def __init__(self, path: Path, run: str, *, mask: Mask | None = None) -> None:
        """``mask`` shows an order's number as far as it may be seen; None: as it is."""
        self._mask = mask
        self._path = path
        self._run = run
        self._stack = ExitStack()
        self._made = not path.exists()
        self._shown: dict[str, list[DifferenceLine]] = {}
        self._first = True

    def __enter__(self) -> Self:
        """Open the files."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._csv = csv.writer(self._open("differences.csv", newline=""))
        self._csv.writerow(_COLUMNS)
        self._json = self._open("run.json")
        self._json.write('{"differences":[')
        return self

    def __exit__(self, *_: object) -> None:
        """Delete what did not come to its end."""
        self._stack.close()
        for name in _FILES:
            part_of(self._path / name).unlink(missing_ok=True)
        if self._made and not any(self._path.iterdir()):
            self._path.rmdir()

    def add(self, line: DifferenceLine) -> None:
        """Write a difference."""
        if self._mask is not None:
            line = {**line, "key": self._mask(line["key"])}
        center, shown, sent = line["order_center"], line["platform"], line["relay"]
        row = (
            *(self._run, line["kind"], line["key"], line["why"]),
            *((None, None) if center is None else (center["status"], center["at"])),
            *((None, None) if shown is None else (shown["status"], shown["at"])),
            *((None,) * 4 if sent is None else (sent["id"], sent["state"], sent["at"], sent["reason"])),
            *(line["proposal"], line["first_seen"], line["runs"]),
        )
        self._csv.writerow([_cell(value) for value in row])
        self._json.write(("" if self._first else ",\n") + msgspec.json.encode(line).decode())
        self._first = False
        kept = self._shown.setdefault(line["kind"], [])
        if len(kept) < _SHOWN:
            kept.append(line)

    def end(self, summary: RunSummary, trend: list[RunSummary]) -> None:
        """Write the summary and the page, and let the files take their names."""
        if self._mask is not None and "verified_orders" in summary:
            orders: list[VerifiedOrder] = [
                {"key": self._mask(each["key"]), "result": each["result"]} for each in summary["verified_orders"]
            ]
            summary = {**summary, "verified_orders": orders}
        rest = msgspec.json.encode(summary).decode()
        self._json.write("]," + rest[1:])
        self._open(SUMMARY).write(rest)
        self._open("report.html").write(page(summary, self._shown, trend))
        self._stack.close()
        for name in _FILES:
            put_in_place(self._path / name)

    def _open(self, name: str, **how: Any) -> IO[str]:
        file = open(part_of(self._path / name), "w", encoding="utf-8", opener=private, **how)  # noqa: SIM115 - entered
        return self._stack.enter_context(file)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
