"""``relay presets``: what is known of platforms, for ``preset: NAME`` in the configuration."""

import click

from relay.cli.support.output import Row, document_option, output_option, print_record, print_rows
from relay.cli.words.sentences import say
from relay.config.problems import BadValue
from relay.config.reading.presets import Preset, preset, preset_names


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@output_option
@click.pass_context
def presets(ctx: click.Context, output: str) -> None:
    """List the presets: what is known of a platform, for `preset: NAME` in the configuration."""
    if ctx.invoked_subcommand is None:
        rows = [_row(preset(name)) for name in preset_names()]
        print_rows(rows, output=output, columns=("name", "title", "limit"))
        if output == "table":
            click.echo(say("relay presets show NAME: settings, sources, and what you have to supply"), err=True)


@presets.command()
@click.argument("name")
@document_option
def show(name: str, output: str) -> None:
    """Show one preset: its settings, where each fact comes from, and what is not known."""
    try:
        found = preset(name)
    except BadValue as bad:
        raise click.UsageError(f"{bad.message}; {bad.hint}") from bad
    if output == "table":
        click.echo(found.text, nl=False)
        return
    fields = {key: value for key, value in found._asdict().items() if key != "text"}
    print_record(fields | {"needs": [need._asdict() for need in found.needs]}, output=output)


def _row(found: Preset) -> Row:
    settings = found.platform
    envelope = settings.get("envelope", "array")
    return {
        "name": found.name,
        "title": found.title,
        "envelope": envelope["kind"] if isinstance(envelope, dict) else envelope,
        "limit": settings.get("rate", "learned"),
        "to_supply": ", ".join(need.key for need in found.needs),
    }
