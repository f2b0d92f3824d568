"""``relay config``: check, show, test and compare files. Only what is in force needs the daemon."""

import click

from relay.cli.main import EXIT_DIFFERENT, EXIT_FAILED
from relay.cli.support import human
from relay.cli.support.config_file import (
    chosen_file,
    config_file,
    examined,
    load_config,
    problem_text,
    say_codes,
    unread_text,
)
from relay.cli.support.locate import WHERE, locate, place_options
from relay.cli.support.output import Row, document_option, output_option, print_record, print_rows, printable, to_json
from relay.cli.words.sentences import say
from relay.config.diff import Change, Difference, difference, difference_as_shown
from relay.config.effective import ShownSettings, as_scalar, as_tree, as_yaml, effective
from relay.config.problems import ConfigInvalid
from relay.config.report.json_schema import json_schema, json_schema_text
from relay.config.report.translate import dotted
from relay.config.schema.file import Config
from relay.core.clock import wall_s
from relay.core.plural import count


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """Check and show the configuration file ($RELAY_CONFIG, ./config.yaml or /etc/relay/config.yaml)."""


@config.command()
@config_file
@click.option("--strict", is_flag=True, help="Exit with 3 when there are warnings.")
@click.option(
    "--probe",
    is_flag=True,
    help="Also try to reach every platform: its name, TLS, a token. Sends no callback. Exit with 1 when one fails.",
)
@output_option
def check(option: str | None, argument: str | None, strict: bool, probe: bool, output: str) -> None:
    """Name every problem of the file. Opens, binds and writes nothing, but for what --probe asks for.

    As JSON: a list of {file, line, col, code, message, hint}; codes that start with W are warnings. With --probe, of a
    file without problems, a list of {kind, name, address, found, problem}.
    """
    file = chosen_file(option, argument)
    if output != "table" and probe:
        _probe(load_config(file), output)
        return
    if output != "table":
        found, ok = examined(file)
        print_rows((problem._asdict() for problem in found), output=output, columns=())
        raise click.exceptions.Exit(EXIT_FAILED if not ok else EXIT_DIFFERENT if strict and found else 0)
    loaded = load_config(file, err=False)
    for warning in loaded.warnings:
        click.echo(problem_text(warning))
    say_codes(loaded.warnings, err=False)
    if unread := unread_text(loaded):
        click.echo(unread)
    number = len(loaded.destinations)
    included = len(loaded.files) - 1
    beside = ""
    if included:
        beside = say(" and {files}", files=count(included, "included file"), n=included)
    words = "{file}{beside}: ok, {platforms}"
    click.echo(say(words, file=file, beside=beside, platforms=count(number, "platform"), n=number))
    if probe:
        _probe(loaded, output)
    if strict and loaded.warnings:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _probe(loaded: Config, output: str) -> None:
    import asyncio

    from relay.cli.commands.trying.reach import probed  # loads the modules of delivery

    found = asyncio.run(probed(loaded))
    if output != "table":
        print_rows((each._asdict() for each in found), output=output, columns=())
    else:
        for each in found:
            click.echo(printable(each.line()))
    if any(each.problem for each in found):
        raise click.exceptions.Exit(EXIT_FAILED)


@config.command()
@config_file
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@document_option
def show(option: str | None, argument: str | None, origin: bool, output: str) -> None:
    """Show every setting that the file puts in force, with the defaults; secrets are masked."""
    settings = effective(load_config(chosen_file(option, argument)))
    if output == "table":
        click.echo(as_yaml(settings, origin=origin), nl=False)
    elif origin:
        shown = {dotted(path): {"value": value, "origin": where} for path, value, where in settings}
        print_record(shown, output=output)
    else:
        print_record(as_tree(settings), output=output)


@config.command()
@click.argument("cases")
@click.option("-c", "--config", "option", metavar="FILE", help=f"The file. Default: {WHERE}.")
@output_option
def test(cases: str, option: str | None, output: str) -> None:
    """Try the posts in the file CASES on the routes and platforms, without sending anything.

    CASES is a list of {payload, event, key, platform, expect: {to: [...], key: ..., refused: CODE}}.
    """
    # Loads the modules of intake, which other commands do not need
    from relay.cli.support.cases import failures, read_cases
    from relay.cli.support.trial import Trial

    trial = Trial(load_config(chosen_file(option)))
    try:
        found = read_cases(cases)
    except ConfigInvalid as invalid:
        click.echo(str(invalid), err=output != "table")
        raise click.exceptions.Exit(1) from None
    rows: list[Row] = []
    for case in found:
        try:
            wrong = failures(case, trial.post(case.payload, case.headers, platform=case.platform))
        except KeyError:
            wrong = [say("there is no platform '{name}'", name=case.platform)]
        rows.append({"file": cases, "line": case.line, "name": case.name, "ok": not wrong, "problems": wrong})
    failed = sum(not row["ok"] for row in rows)
    if output != "table":
        print_rows(rows, output=output, columns=())
    else:
        for row in rows:
            said = "; ".join([row["name"], *row["problems"]])
            click.echo(f"{'ok  ' if row['ok'] else 'FAIL'} {cases}:{row['line']}: {said}")
        click.echo(say("{cases}, {failed} failed", cases=count(len(found), "case"), n=len(found), failed=failed))
    if failed or not found:
        raise click.exceptions.Exit(1)


@config.command()
@config_file
@output_option
def schema(option: str | None, argument: str | None, output: str) -> None:
    """Print the JSON Schema of the configuration, for editors. There is one schema: a FILE named is not read."""
    click.echo(to_json(json_schema()) + "\n" if output == "jsonl" else json_schema_text(), nl=False)


@config.command()
@place_options
@output_option
def reloads(config: str | None, admin: str | None, output: str) -> None:
    """Show the daemon's last 20 reloads, newest first: when, by whom, with what result, and what they changed."""
    from relay.views.configuration import ConfigView
    from relay.views.moments import plain

    found = locate(config, admin=admin).admin_client().view(ConfigView, "/v1/config").reloads
    if output != "table":
        print_rows(plain(found), output=output, columns=())
        return
    for one in found:
        problems = ""
        if one.problems:
            number = count(one.problems, "problem")
            problems = say(", {problems}: {todo}", problems=number, n=one.problems, todo=one.todo)
        words = "{when} by {by}: {result}{problems}"
        when = human.moment(one.at, now=wall_s())
        click.echo(printable(say(words, when=when, by=one.by, result=one.result, problems=problems)))
        for line in one.changes:
            click.echo(printable(f"  {line}"))
    if not found:
        click.echo(say("no reload since the start"))


@config.command()
@click.argument("files", nargs=-1, metavar="[[OLD] NEW]")
@click.option(
    "-c", "--config", "option", metavar="FILE", help=f"The file, or OLD when NEW is named too. Default: {WHERE}."
)
@click.option("--admin", metavar="URL", help="With one file: where the daemon is. Default: as that file says.")
@click.option("--exit-code", "tells", is_flag=True, help="Exit with 3 when there are differences.")
@output_option
def diff(files: tuple[str, ...], option: str | None, admin: str | None, tells: bool, output: str) -> None:
    """Show what a reload from file OLD to file NEW would change.

    With one file: what it would change of what the running daemon has in force; secrets are then compared as written,
    not by their values.
    """
    named = [*([option] if option else []), *files]
    if len(named) > 2:
        raise click.UsageError(say("name two files at most: OLD and NEW"))
    if len(named) == 2:
        found = difference(load_config(named[0]), load_config(named[1]))
    else:
        file = named[0] if named else chosen_file(None)
        new = as_tree(effective(load_config(file)))
        found = difference_as_shown(_in_force(file, admin), new)
    if output == "table":
        _print_difference(found)
    else:
        print_record(_as_dict(found), output=output)
    if tells and not found.empty:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _as_dict(found: Difference) -> Row:
    changes = [
        {"path": dotted(one.path), "old": one.old, "new": one.new, "needs_restart": one.needs_restart}
        for one in found.changes
    ]
    platforms = {
        "added": found.added,
        "removed": found.removed,
        "changed": found.changed,
        "unchanged": found.unchanged,
    }
    return {"platforms": platforms, "changes": changes}


def _print_difference(found: Difference) -> None:
    for name in found.added:
        click.echo(f"+ platforms.{name}")
    for name in found.removed:
        click.echo(f"- platforms.{name}")
    for one in found.changes:
        if not (one.path[0] == "platforms" and one.path[1] in (*found.added, *found.removed)):
            click.echo(_line(one))
    for path in found.hidden:
        click.echo(say("~ {path}  (a secret's value)", path=dotted(path)))
    if found.empty:
        click.echo(say("no difference"))
    elif found.unchanged:
        number = len(found.unchanged)
        click.echo(say("{platforms} not touched", platforms=count(number, "platform"), n=number))


def _in_force(file: str, admin: str | None) -> ShownSettings:
    """Return the daemon's configuration as ``as_tree`` does; ``file`` says where the daemon listens."""
    from relay.cli.support.client import Unreachable
    from relay.views.configuration import ConfigView

    place = locate(file, admin=admin)
    try:
        in_force = place.admin_client().view(ConfigView, "/v1/config").config
    except Unreachable as error:
        words = "{why}; two files are compared without it: relay config diff OLD NEW"
        raise Unreachable(say(words, why=error)) from error
    click.echo(say("compared with what the daemon at {address} has in force", address=place.admin), err=True)
    return in_force


def _line(change: Change) -> str:
    note = say("  (needs a restart)") if change.needs_restart else ""
    old, new = (say("not set") if value is None else as_scalar(value) for value in (change.old, change.new))
    return f"{'!' if change.needs_restart else '~'} {dotted(change.path)}  {old} -> {new}{note}"
