"""``relay config``: check, show, try and compare configuration files without a daemon."""

import click

from relay.cli.configfile import chosen_file, config_file, count, load_config
from relay.cli.output import to_json
from relay.config.diff import Change, difference
from relay.config.effective import as_scalar, as_tree, as_yaml, effective
from relay.config.jsonschema import json_schema_text
from relay.config.problems import ConfigInvalid
from relay.config.translate import dotted


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """Check and show the configuration file (default: $RELAY_CONFIG, else ./config.yaml)."""


@config.command()
@config_file
def check(option: str | None, argument: str | None) -> None:
    """Name every problem of the file. Opens, binds and writes nothing."""
    file = chosen_file(option, argument)
    loaded = load_config(file, err=False)
    for warning in loaded.warnings:
        click.echo(str(warning))
    number = len(loaded.platforms)
    click.echo(f"{file}: ok, {count(number, 'platform')}")


@config.command()
@config_file
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def show(option: str | None, argument: str | None, origin: bool, output: str) -> None:
    """Show every setting in force, defaults merged in and secrets masked."""
    settings = effective(load_config(chosen_file(option, argument)))
    if output == "yaml":
        click.echo(as_yaml(settings, origin=origin), nl=False)
    elif origin:
        click.echo(
            to_json({dotted(path): {"value": value, "origin": where} for path, value, where in settings}, indent=2)
        )
    else:
        click.echo(to_json(as_tree(settings), indent=2))


@config.command()
@click.argument("cases")
@click.option("-c", "--config", "option", metavar="FILE", help="The file; also $RELAY_CONFIG.")
def test(cases: str, option: str | None) -> None:
    """Try the posts in the file CASES on the routes and platforms, without sending anything.

    CASES is a list of {payload, event, key, platform, expect: {to: [...], key: ..., refused: CODE}}.
    """
    from relay.cli.cases import failures, read_cases  # loads what intake needs, which the other commands do not
    from relay.cli.trial import Trial

    trial = Trial(load_config(chosen_file(option)))
    failed = 0
    try:
        found = read_cases(cases)
    except ConfigInvalid as invalid:
        click.echo(str(invalid))
        raise click.exceptions.Exit(1) from None
    for case in found:
        try:
            wrong = failures(case, trial.post(case.payload, case.headers, platform=case.platform))
        except KeyError:
            wrong = [f"there is no platform {case.platform!r}"]
        failed += bool(wrong)
        click.echo(f"{'FAIL' if wrong else 'ok  '} {cases}:{case.line}: {'; '.join([case.name, *wrong])}")
    click.echo(f"{count(len(found), 'case')}, {failed} failed")
    if failed or not found:
        raise click.exceptions.Exit(1)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    click.echo(json_schema_text(), nl=False)


@config.command()
@click.argument("old")
@click.argument("new")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def diff(old: str, new: str, output: str) -> None:
    """Show what a reload from file OLD to file NEW would change."""
    found = difference(load_config(old), load_config(new))
    if output == "json":
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
        click.echo(to_json({"platforms": platforms, "changes": changes}, indent=2))
        return
    for name in found.added:
        click.echo(f"+ platforms.{name}")
    for name in found.removed:
        click.echo(f"- platforms.{name}")
    for one in found.changes:
        if not (one.path[0] == "platforms" and one.path[1] in (*found.added, *found.removed)):
            click.echo(_line(one))
    for path in found.hidden:
        click.echo(f"~ {dotted(path)}  (a secret's value)")
    if found.empty:
        click.echo("no difference")
    elif found.unchanged:
        click.echo(f"{count(len(found.unchanged), 'platform')} not touched")


def _line(change: Change) -> str:
    note = "  (needs a restart)" if change.needs_restart else ""
    old, new = ("not set" if value is None else as_scalar(value) for value in (change.old, change.new))
    return f"{'!' if change.needs_restart else '~'} {dotted(change.path)}  {old} -> {new}{note}"
