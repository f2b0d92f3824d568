"""Lays rows out as a table: one line per row in a pipe, wrapped into the width of a terminal.

The width is ``$COLUMNS`` if that is set, else the terminal's own. Ids, states and numbers are never broken, because
people look them up and copy them. The other columns become narrower: first texts, then, only where a line would leave
the terminal, the names of platforms and the like. If that is not enough, the line is longer.
"""

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Collection, Sequence

import click

from relay.cli.words.sentences import say

_FIRM = ("id", "state", "sample")
_NAMES = ("platform", "name", "code")  # firm too, as long as there is room
_USUAL = 80  # columns, if the width is not known
_TIMES = ("accepted", "started", "at", "last", "since")
_NARROWEST = (9, 8, 7, 6)  # columns for text that wraps: the first of these with which the table fits
_TIME_COLUMNS = 8  # what holds 06:00:45
_WIDE = re.compile(r"[\u2e80-\u9fff\uff00-\uffef]")
_PIECE = re.compile(r"[\u2e80-\u9fff][，。；：、）]*\s*|[^\s\u2e80-\u9fff]+[、。]*\s*|\s+")
"""What a line of Chinese may end with: one character and the stop behind it, or a word between spaces."""
_STATES = {
    "ok": "green",
    "delivered": "green",
    "limited": "yellow",
    "throttled": "yellow",
    "warn": "yellow",
    "paused": "magenta",
    "broken": "red",
    "dead": "red",
    "expired": "red",
    "fail": "red",
}


def terminal_columns() -> int | None:
    """Return how many columns there are to fill; None for a pipe or file, whose lines may have any length."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def coloured(state: str, *, width: int = 0) -> str:
    """Return a state filled up to ``width``; in its colour on a terminal, unless NO_COLOR is set."""
    colour = _STATES.get(state.partition(" ")[0])
    wanted = colour is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return click.style(state, fg=colour) + " " * (width - len(state)) if wanted else state.ljust(width)


def wrapped(text: str, *, indent: int) -> list[str]:
    """Return the lines of a text: wrapped on a terminal, all but the first indented; one line for a pipe."""
    columns = terminal_columns()
    if columns is None or columns <= 2 * indent:
        return [text]
    return filled(text, columns, indent=indent)


def print_wrapped(text: str, *, indent: int = 2) -> None:
    """Print the lines of ``wrapped``: on a terminal a line never leaves its columns."""
    for line in wrapped(text, indent=indent):
        click.echo(line)


def filled(text: str, columns: int, *, indent: int = 0) -> list[str]:
    """Return the lines of a text of at most so many columns, all but the first indented.

    Lines end between words; in Chinese between two characters, but not before a stop.
    """
    if not _WIDE.search(text):
        lines = textwrap.wrap(
            text, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
        return lines or [text]
    lines = [""]
    for piece in _PIECE.findall(text):
        if width_of(lines[-1] + piece.rstrip()) > columns and lines[-1].strip():
            lines[-1] = lines[-1].rstrip()
            lines.append(" " * indent)
        lines[-1] += piece if lines[-1].strip() else piece.lstrip()
    return lines


def print_table(cells: Sequence[Sequence[str]], columns: Sequence[str], right: Sequence[str]) -> None:
    """Print rows of texts under ``columns``, those in ``right`` aligned right."""
    room = terminal_columns()
    if room is None:
        _print_plain(cells, columns, right)
    else:
        _print_wrapped(cells, columns, right, room)


def width_of(text: str) -> int:
    """Return how many columns a text takes: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def padded(text: str, width: int) -> str:
    """Return a text filled up with spaces to ``width`` columns."""
    return text + " " * (width - width_of(text))


def _heads(columns: Sequence[str]) -> list[str]:
    return [say(column).upper() for column in columns]


def _widths(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> list[int]:
    lines = [_heads(columns), *cells]
    return [max(width_of(line[index]) for line in lines) for index in range(len(columns))]


def _gap(widths: Sequence[int], room: int) -> int:
    """Return how many spaces separate two columns: two, or one if the table would be too wide."""
    return 2 if sum(widths) + 2 * (len(widths) - 1) <= room else 1


def _print_plain(cells: Sequence[Sequence[str]], columns: Sequence[str], right: Sequence[str]) -> None:
    widths = _widths(cells, columns)
    gap = " " * _gap(widths, _USUAL)
    for line in [_heads(columns), *cells]:
        filled = [
            " " * (width - width_of(text)) + text if column in right else padded(text, width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo(gap.join(filled).rstrip())


def _print_wrapped(cells: Sequence[Sequence[str]], columns: Sequence[str], right: Sequence[str], room: int) -> None:
    from rich.console import Console  # imported only for tables on a terminal
    from rich.table import Table
    from rich.text import Text

    widths = _widths(cells, columns)
    gap = _gap(widths, room)
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=gap == 1)
    gaps = gap * (len(columns) - 1)
    firm = {column for column in columns if column in _FIRM or column in right or column in _NAMES}
    leasts = _least(columns, widths, firm, _NARROWEST[0])
    if gaps + sum(leasts) > room:
        firm -= set(_NAMES)
        for narrowest in _NARROWEST:
            leasts = _least(columns, widths, firm, narrowest)
            if gaps + sum(leasts) <= room:
                break
    for column, head, least in zip(columns, _heads(columns), leasts, strict=True):
        table.add_column(
            head,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column in firm,
            min_width=least,
        )
    state = columns.index("state") if "state" in columns else -1
    for line in cells:
        table.add_row(
            *(
                Text(text, style=_STATES.get(text.partition(" ")[0], "") if at == state else "")
                for at, text in enumerate(line)
            )
        )
    Console(width=max(room, gaps + sum(leasts))).print(table)


def _least(columns: Sequence[str], widths: Sequence[int], firm: Collection[str], narrowest: int) -> list[int]:
    """Return how narrow each column may become, if text that wraps may become so narrow."""
    return [
        width if column in firm else min(width, max(narrowest, _TIME_COLUMNS) if column in _TIMES else narrowest)
        for column, width in zip(columns, widths, strict=True)
    ]
