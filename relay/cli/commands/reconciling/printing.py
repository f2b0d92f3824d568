"""Prints what a comparison found, as a table, JSON or JSON lines."""

from collections.abc import Mapping
from typing import Any

import click

from relay.cli.support import human
from relay.cli.support.output import print_rows, printable, to_json
from relay.cli.support.table import wrapped
from relay.cli.words.sentences import say
from relay.core.clock import wall_s
from relay.reconcile.results import DifferenceLine, RunSummary, VerifiedOrder
from relay.views.moments import Instant, read

_COLUMNS = ("kind", "key", "why", "order center", "platform", "relay", "proposal", "since")


class Printer:
    """Takes differences as they are found; JSON lines are printed at once, so that ten million stream."""

    def __init__(self, output: str, *, silent: bool = False) -> None:
        self._output = output
        self._silent = silent
        self._found: list[DifferenceLine] = []

    def difference(self, line: DifferenceLine) -> None:
        """Print a difference, or keep it for the end."""
        if self._silent:
            return
        if self._output == "jsonl":
            click.echo(to_json(line))
        else:
            self._found.append(line)

    def end(self, summary: RunSummary) -> None:
        """Print the summary."""
        if self._output == "jsonl":
            click.echo(to_json(summary))
        elif self._output == "json":
            click.echo(to_json({**summary, "differences": self._found}, indent=2))
        else:
            self._table(summary)

    def _table(self, summary: RunSummary) -> None:
        if self._found:
            print_rows(map(_row, self._found), output="table", columns=_COLUMNS)
        _print_problems(summary)
        rows = summary["read"]
        counted = ", ".join(f"{count} {kind}" for kind, count in summary["counts"].items())
        if not counted:
            counted = say("nothing differs") if summary["complete"] else say("nothing is said of the rest")
        sides = {"center": rows["order_center"], "platform": rows["platform"], "agree": summary["agree"]}
        text = say("read {center} and {platform}: {agree} agree; {counted}", **sides, counted=counted)
        for part in wrapped(text, indent=2):
            click.echo(part)
        click.echo(say("run {run}", run=summary["run"]))
        if made := summary.get("repair"):
            words = "repaired: {sent} sent again, {applied} there by now, of {proposed} proposed"
            done = say(words, sent=made["sent"], applied=made["applied"], proposed=made["proposed"])
            click.echo(say("not repaired: {why}", why=made["refused"]) if made["refused"] else done)
        if checked := summary.get("verified"):
            click.echo(say("of run {run}: {counts}", run=checked["of"], counts=_counted(checked["counts"])))
            left = [each for each in summary["verified_orders"] if each["result"] != "repaired"]
            if left:
                print_rows(left, output="table", columns=("key", "result"))
        if not summary["complete"]:
            words = "incomplete: a side was not read whole, so nothing is called missing from it"
            click.echo(say(words), err=True)


def print_verified(summary: RunSummary, of: str, results: list[VerifiedOrder], output: str) -> None:
    """Print what became of a run's repairs."""
    counts = summary.get("verified", {}).get("counts", {})
    if output == "table":
        if results:
            print_rows(results, output="table", columns=("key", "result"))
        _print_problems(summary)
        click.echo(say("of run {run}: {counts}", run=of, counts=_counted(counts)))
        return
    if output == "jsonl":
        for each in results:
            click.echo(to_json(each))
        results = []
    whole = {"run": summary["run"], "of": of, "verified": results, "counts": counts}
    click.echo(to_json(whole, indent=2 if output == "json" else None))


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items()) or say("nothing was repaired")


def _print_problems(summary: RunSummary) -> None:
    for problem in summary["problems"]:
        click.echo(printable(f"{problem['side']}: {problem['place']}: {problem['text']}"), err=True)


def _row(line: DifferenceLine) -> dict[str, Any]:
    center, shown, sent = line["order_center"], line["platform"], line["relay"]
    return {
        "kind": line["kind"],
        "key": line["key"],
        "why": line["why"],
        "order center": center and center["status"],
        "platform": shown and shown["status"],
        "relay": sent and f"{sent['state']} {sent['id']}",
        "proposal": line["proposal"],
        "since": line["first_seen"] and human.distance(read(Instant, line["first_seen"]), now=wall_s()),
    }
