"""Prints rows as a table, JSON or JSON lines; every listing command offers the same ``-o``."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from relay.cli.support.table import padded, print_table, width_of, wrapped
from relay.core.unsafe import escaped

_Command = TypeVar("_Command", bound=Callable[..., Any])
Row = Mapping[str, Any]
"""What a command shows of one thing, by column: whatever can be printed. No command reads one back."""
FORMATS = ("table", "json", "jsonl")


def output_option(command: _Command) -> _Command:
    """Add ``-o table|json|jsonl`` to a command, which gets it as ``output``."""
    choice = click.Choice(FORMATS)
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help="Form of output.")(
        command
    )


def document_option(command: _Command) -> _Command:
    """Add ``-o`` to a command that shows a document. Its table is YAML; ``-o yaml`` means the same."""

    def read(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
        return "table" if value == "yaml" else value

    choice = click.Choice((*FORMATS, "yaml"))
    words = "Form of output; the table is YAML."
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help=words, callback=read)(
        command
    )


def print_rows(rows: Iterable[Row], *, output: str, columns: Sequence[str], right: Sequence[str] = ()) -> None:
    """Print rows: a table of ``columns`` (those in ``right`` aligned right), or all their fields as JSON."""
    if output == "jsonl":
        for row in rows:
            click.echo(to_json(row))
        return
    if output == "json":
        click.echo(to_json(list(rows), indent=2))
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    print_table(cells, columns, right)


def print_record(record: Row, *, output: str) -> None:
    """Print one thing: its fields line by line, or as JSON."""
    if output != "table":
        click.echo(to_json(record, indent=2 if output == "json" else None))
        return
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        click.echo(f"{name.ljust(width)}  {_cell(value)}")


def aligned(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each fact, all texts in one column. On a terminal a long text wraps in that column."""
    width = max((width_of(name) for name, _ in facts), default=0) + 2
    return [line for name, text in facts for line in wrapped(f"{padded(name, width)}{printable(text)}", indent=width)]


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON text in which only characters that could drive a terminal are escaped.

    A value that JSON cannot hold becomes text.
    """
    return escaped(json.dumps(value, indent=indent, ensure_ascii=False, default=str))


def printable(text: str) -> str:
    """Return text that is safe to print: a control character in a key or an answer must not drive the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = to_json(value) if isinstance(value, Mapping | list | tuple) else str(value)
    return printable(text)
