"""Prints what commands found: aligned columns for people, JSON for programs."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from unicodedata import east_asian_width

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def output_option(command: _Command) -> _Command:
    """Give a command ``-o table|json|jsonl``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(("table", "json", "jsonl")),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(command)


def say_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def say_jsonl(values: Iterable[Any]) -> None:
    """Print one JSON document per line."""
    for value in values:
        click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return ``rows`` as lines with aligned columns; control characters in them are shown, not obeyed."""
    clean = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*clean, strict=True)]
    return [
        " ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    ]


def _printable(text: str) -> str:
    """Return ``text`` with control characters spelled out: a key from outside must not move the cursor of whoever looks at it."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def _width(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two (Unicode TR 11)."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
