"""``--help`` in the user's language: what each command and option is for, and the page laid out for Chinese.

The English stands in the code; ``help.zh-CN.json`` beside this module holds ``{English: Chinese}``, the English as one
line. In the Chinese a paragraph that begins with a backspace keeps its lines, as click has it.
"""

import copy
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import click

from relay.cli.support.table import filled, padded, width_of

_HEADS = {"Options": "选项", "Commands": "命令"}
_LEAST = 20  # columns for what an option means


def in_language(command: click.Command, language: str) -> click.Command:
    """Return the command with its help, and that of all below it, in ``language``; in English it is the command."""
    if language == "en":
        return command
    told = copy.copy(command)
    told.help = in_chinese(command.help)
    told.context_class = _Context
    told.params = [_option(each) if isinstance(each, click.Option) else each for each in command.params]
    if isinstance(told, click.Group):
        told.commands = {name: in_language(each, language) for name, each in told.commands.items()}
    return told


def in_chinese(text: str | None) -> str | None:
    """Return a help text in Chinese, in English where it has none."""
    return None if text is None else _chinese().get(as_one_line(text), text)


def as_one_line(text: str) -> str:
    """Return a help text as it is found by: ``Only these.``"""
    return " ".join(text.replace("\b", "").split())


def _option(option: click.Option) -> click.Option:
    told = copy.copy(option)
    told.help = in_chinese(option.help)
    return told


@cache
def _chinese() -> dict[str, str]:
    return dict(json.loads((files(__package__) / "help.zh-CN.json").read_text(encoding="utf-8")))


class _Formatter(click.HelpFormatter):
    """Lays a page of help out in columns, of which a Chinese character takes two."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(_HEADS.get(heading, heading))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, "用法：" if prefix is None else prefix)

    def write_text(self, text: str) -> None:
        margin = " " * self.current_indent
        for number, paragraph in enumerate(text.split("\n\n")):
            lines = paragraph.removeprefix("\b\n").split("\n")
            if not paragraph.startswith("\b"):
                lines = filled(" ".join(lines), self.width - self.current_indent)
            self.write("\n" if number else "")
            self.write("".join(f"{margin}{line}\n" for line in lines))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        margin = " " * self.current_indent
        rows = [(name, in_chinese(text) or "") for name, text in rows]  # click itself describes --help
        room = min(max((width_of(name) for name, _ in rows), default=0), col_max) + col_spacing
        for name, text in rows:
            lines = filled(text, max(_LEAST, self.width - self.current_indent - room))
            if width_of(name) + col_spacing > room:
                self.write(f"{margin}{name}\n")
                name = ""
            for line in lines:
                self.write(f"{margin}{padded(name, room)}{line}".rstrip() + "\n")
                name = ""


class _Context(click.Context):
    formatter_class = _Formatter
