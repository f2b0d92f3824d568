"""How every command finds and loads the configuration file."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from relay.cli.support.locate import WHERE, found_file
from relay.cli.words.daemon_words import heard
from relay.cli.words.language import spoken
from relay.cli.words.meanings import known_codes
from relay.cli.words.sentences import say
from relay.config.load import load
from relay.config.problems import ConfigInvalid, Problem
from relay.config.schema.file import Config
from relay.core.plural import count

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_file(command: _Command) -> _Command:
    """Let a command take the file as ``-c FILE`` or as an argument; it gets both as ``option`` and ``argument``."""
    argument = click.argument("argument", metavar="[FILE]", required=False)
    option = click.option("-c", "--config", "option", metavar="FILE", help=f"The file. Default: {WHERE}.")
    return option(argument(command))


def chosen_file(option: str | None, argument: str | None = None) -> str:
    """Return the file to use: named by option or argument, else the first of ``WHERE`` that exists."""
    if option and argument:
        raise click.UsageError(say("name the file once: with -c or as an argument"))
    return option or argument or found_file()


def other_file(told: str, mine: str) -> bool:
    """Tell whether ``told``, which a daemon has in force, is another file than ``mine`` of this command.

    It is none where ``mine`` does not exist: then the command only took the usual address of a daemon.
    """
    if not os.path.exists(mine):
        return False
    try:
        return not os.path.samefile(told, mine)
    except OSError:  # one of them is gone, or not for this user to see
        return os.path.realpath(told) != os.path.realpath(mine)


def load_config(file: str, *, err: bool = True) -> Config:
    """Load the file. If it is invalid, print every problem, say that nothing was done, and end with 1.

    ``err`` sends the problems to standard error. For a check they are the result and go to standard output.
    """
    try:
        return load(file, for_service=True)
    except ConfigInvalid as invalid:
        for problem in invalid.problems:
            click.echo(problem_text(problem), err=err)
        say_codes(invalid.problems, err=err)
        number = len(invalid.problems)
        words = "{problems}. Nothing was opened, written or sent."
        click.echo(say(words, problems=count(number, "problem"), n=number), err=err)
        raise click.exceptions.Exit(1) from None


def problem_text(problem: Problem) -> str:
    """Return a problem as a line, in the user's language as far as its words are known."""
    return str(problem._replace(message=heard(problem.message), hint=heard(problem.hint)))


def say_codes(problems: Sequence[Problem], *, err: bool) -> None:
    """Say what each code among the problems means, where the language is not English; the lines above name places."""
    if spoken() == "en":
        return
    known = known_codes(spoken())
    for code in dict.fromkeys(problem.code for problem in problems):
        click.echo(f"{code}  {known[code].meaning}{known[code].todo}", err=err)


def examined(file: str) -> tuple[Sequence[Problem], bool]:
    """Return the problems of a file, and whether it can be used; then its problems are warnings."""
    try:
        return load(file, for_service=True).warnings, True
    except ConfigInvalid as invalid:
        return invalid.problems, False


def unread_text(config: Config) -> str:
    """Return which secrets this user may not read, which only the service can check; else an empty text."""
    words = "not read here, the service has them: {names}"
    return say(words, names=", ".join(config.unread)) if config.unread else ""
