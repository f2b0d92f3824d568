"""Every command with its arguments and options, as ``relay COMMAND --help`` has them."""

from collections.abc import Iterator

import click
from relay.cli.main import relay
from relay.cli.words.help import in_language
from tools.site.reference.words import Words, code, prose, table


def page(words: Words) -> str:
    """Return the page: a section for each command and each of its subcommands."""
    parts: list[str] = []
    for path, english, context in _all():
        command = in_language(english, words.language)
        about = "\n\n".join(prose(part) for part in (command.help or "").replace("\b", "").split("\n\n"))
        usage = " ".join(("relay", *path, *command.collect_usage_pieces(context)))
        parts.append(f"## relay {' '.join(path)}\n\n{about}\n\n```\n{usage}\n```\n\n")
        rows = [
            (code(record[0]), prose(record[1]))
            for option in command.get_params(context)
            if option.name != "help" and (record := option.get_help_record(context))
        ]
        if rows:
            parts.append(table(words["option meaning", "选项 意思"].split(), rows))
    return "".join(parts)


def _all() -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    root = click.Context(relay, info_name="relay")
    for name in relay.list_commands(root):
        command = relay.get_command(root, name)
        assert command is not None
        yield from _below((name,), command, root)


def _below(
    path: tuple[str, ...], command: click.Command, parent: click.Context
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    context = click.Context(command, info_name=path[-1], parent=parent)
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            under = command.get_command(context, name)
            assert under is not None
            yield from _below((*path, name), under, context)
