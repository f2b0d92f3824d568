"""Prints what a comparison found, as a table, JSON or JSON lines."""

from typing import Any

import click

from relay.cli.support.output import print_rows, printable, to_json
from relay.core.raw import JsonObject

_COLUMNS = ("kind", "key", "why", "order center", "platform", "relay", "proposal", "since")


class Printer:
    """Takes differences as they are found; JSON lines are printed at once, so that ten million stream."""

    def __init__(self, output: str, *, silent: bool = False) -> None:
        self._output = output
        self._silent = silent
        self._found: list[JsonObject] = []

    def difference(self, line: JsonObject) -> None:
        """Print a difference, or keep it for the end."""
        if self._silent:
            return
        if self._output == "jsonl":
            click.echo(to_json(line))
        else:
            self._found.append(line)

    def end(self, summary: JsonObject) -> None:
        """Print the summary."""
        if self._output == "jsonl":
            click.echo(to_json(summary))
        elif self._output == "json":
            click.echo(to_json({**summary, "differences": self._found}, indent=2))
        else:
            self._table(summary)

    def _table(self, summary: JsonObject) -> None:
        if self._found:
            print_rows(map(_row, self._found), output="table", columns=_COLUMNS)
        _print_problems(summary)
        read = summary["read"]
        counted = ", ".join(f"{count} {kind}" for kind, count in summary["counts"].items()) or "nothing differs"
        click.echo(f"read {read['order_center']} and {read['platform']}: {summary['agree']} agree; {counted}")
        click.echo(f"run {summary['run']}")
        if made := summary.get("repair"):
            text = (
                f"repaired: {made['sent']} sent again, {made['applied']} there by now, of {made['proposed']} proposed"
            )
            click.echo(f"not repaired: {made['refused']}" if made["refused"] else text)
        if checked := summary.get("verified"):
            click.echo(f"of run {checked['of']}: {_counted(checked['counts'])}")
        if not summary["complete"]:
            click.echo("incomplete: a side was not read whole, so nothing is called missing from it", err=True)


def print_verified(summary: JsonObject, of: str, results: list[JsonObject], output: str) -> None:
    """Print what became of a run's repairs."""
    counts = summary.get("verified", {}).get("counts", {})
    if output == "table":
        if results:
            print_rows(results, output="table", columns=("key", "result"))
        _print_problems(summary)
        click.echo(f"of run {of}: {_counted(counts)}")
        return
    if output == "jsonl":
        for each in results:
            click.echo(to_json(each))
        results = []
    whole = {"run": summary["run"], "of": of, "verified": results, "counts": counts}
    click.echo(to_json(whole, indent=2 if output == "json" else None))


def _counted(counts: JsonObject) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing was repaired"


def _print_problems(summary: JsonObject) -> None:
    for problem in summary["problems"]:
        click.echo(printable(f"{problem['side']}: {problem['place']}: {problem['text']}"), err=True)


def _row(line: JsonObject) -> dict[str, Any]:
    center, shown, sent = line["order_center"], line["platform"], line["relay"]
    return {
        "kind": line["kind"],
        "key": line["key"],
        "why": line["why"],
        "order center": center and center["status"],
        "platform": shown and shown["status"],
        "relay": sent and f"{sent['state']} {sent['id']}",
        "proposal": line["proposal"],
        "since": line["first_seen"] and line["first_seen"][:16],
    }
