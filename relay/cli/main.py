"""The ``relay`` command: finds the subcommand, imports its module only then, and turns errors into exit codes.

Exit codes: 0 ok, 1 failed or invalid, 2 wrong usage, 3 differences or warnings that were asked for, 4 the daemon cannot
be reached and nothing else could answer, 78 ``relay run`` cannot use its configuration.
"""

import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any, NamedTuple

import click

from relay.cli.support import streams
from relay.cli.words.help import in_language
from relay.cli.words.language import command_summaries, spoken
from relay.cli.words.sentences import say
from relay.core.errors import RelayError, StoreDamaged
from relay.core.unsafe import escaped

EXIT_FAILED = 1
EXIT_DIFFERENT = 3
EXIT_UNREACHABLE = 4
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: a restart does not help, and the unit makes none
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells expect


class Subcommand(NamedTuple):
    """Where a subcommand lives, and its line in ``relay --help`` (so that help imports nothing)."""

    module: str
    attribute: str
    summary: str


SUBCOMMANDS: dict[str, Subcommand] = {
    "run": Subcommand("relay.cli.commands.run", "run", "Run the daemon."),
    "demo": Subcommand(
        "relay.cli.commands.trying.demo", "demo", "Show what the relay does, with a real kill, in half a minute."
    ),
    "send": Subcommand("relay.cli.commands.send", "send", "Post a callback to the relay."),
    "run-limited": Subcommand(
        "relay.cli.commands.run_limited", "run_limited", "Run a command that sends one request, under a limit."
    ),
    "status": Subcommand("relay.cli.commands.status", "status", "Show every platform's state and the ledger."),
    "ls": Subcommand("relay.cli.commands.callbacks", "ls", "List callbacks."),
    "show": Subcommand("relay.cli.commands.callbacks", "show", "Show one callback with its attempts."),
    "tap": Subcommand("relay.cli.commands.tap", "tap", "Show what is accepted and what comes of it, as it happens."),
    "explain": Subcommand("relay.cli.commands.explain", "explain", "Say why a callback waits, or what a code means."),
    "dead": Subcommand("relay.cli.commands.operate.dead", "dead", "List, retry or drop dead letters."),
    "resolve": Subcommand("relay.cli.commands.operate.resolve", "resolve", "Say what became of held callbacks."),
    "pause": Subcommand("relay.cli.commands.control", "pause", "Stop sending to a platform."),
    "resume": Subcommand("relay.cli.commands.control", "resume", "Go on sending to a platform."),
    "flush": Subcommand("relay.cli.commands.control", "flush", "Send what is pending without waiting for more."),
    "limit": Subcommand("relay.cli.commands.limit", "limit", "Show, set or forget a platform's limits."),
    "hosts": Subcommand(
        "relay.cli.commands.operate.hosts", "hosts", "Show the hosts that share the store; hand platforms over."
    ),
    "alerts": Subcommand("relay.cli.commands.alerts", "alerts", "Show what fires, and what ended lately."),
    "alert": Subcommand("relay.cli.commands.alerts", "alert", "Silence an alert rule, or try a target."),
    "operations": Subcommand("relay.cli.commands.trace.journal", "operations", "List operations over many callbacks."),
    "audit": Subcommand("relay.cli.commands.trace.audit", "audit", "Show who changed or saw what."),
    "reload": Subcommand("relay.cli.commands.reload", "reload", "Put the configuration file in force."),
    "config": Subcommand("relay.cli.commands.config", "config", "Check, show and try the configuration file."),
    "presets": Subcommand("relay.cli.commands.presets", "presets", "List the presets: what is known of platforms."),
    "keys": Subcommand(
        "relay.cli.commands.keeping.keys", "keys", "Make and rotate the keys that the store is sealed with."
    ),
    "backup": Subcommand("relay.cli.commands.keeping.backup", "backup", "Copy the store while the daemon runs."),
    "restore": Subcommand("relay.cli.commands.keeping.backup", "restore", "Put a backup in the place of the store."),
    "store": Subcommand(
        "relay.cli.commands.keeping.store_copy", "store", "Copy a store from a file to a server, and back."
    ),
    "doctor": Subcommand("relay.cli.commands.doctor", "doctor", "Examine everything and recount the ledger from rows."),
    "completion": Subcommand("relay.cli.commands.host.completion", "completion", "Complete commands with the Tab key."),
    "service": Subcommand("relay.cli.commands.host.service", "service", "Print the systemd units."),
    "reconcile": Subcommand(
        "relay.cli.commands.reconciling.command", "reconcile", "Compare the order center, the relay and a platform."
    ),
    "simulate": Subcommand(
        "relay.cli.commands.trying.simulate",
        "simulate_command",
        "Try a configuration on a modelled platform, in virtual time.",
    ),
    "sandbox": Subcommand(
        "relay.cli.commands.trying.sandbox", "sandbox", "Run a platform stand-in with limits and faults."
    ),
}
"""Every subcommand by name; a new one is a module in ``relay/cli`` and a line here."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and suggests a name for a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the order of the table, which is the order of their use."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command called ``cmd_name``."""
        known = SUBCOMMANDS.get(cmd_name)
        if known is None:
            return None
        command: click.Command = getattr(import_module(known.module), known.attribute)
        return in_language(command, spoken())

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one suggest the name probably meant."""
        if args and args[0] not in SUBCOMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], SUBCOMMANDS, 1)
            hint = say(" Did you mean '{name}'?", name=close[0]) if close else ""
            raise click.UsageError(say("No such command '{name}'.{hint}", name=args[0], hint=hint), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, without importing them."""
        with formatter.section("Commands"):
            chinese = command_summaries() if spoken() == "zh-CN" else {}
            formatter.write_dl([(name, chinese.get(name, known.summary)) for name, known in SUBCOMMANDS.items()])


def product_version() -> str:
    """Return the installed version; ``0+source`` when the package is not installed."""
    try:
        return version("callback-relay")
    except PackageNotFoundError:
        return "0+source"


def product_build() -> str:
    """Return the commit a package was built from, as its builder wrote it down; ``from source`` elsewhere."""
    written = files("relay") / "build.txt"
    return written.read_text(encoding="utf-8").strip() if written.is_file() else "from source"


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        schema = import_module("relay.store.sqlite.file.upgrade").SCHEMA_VERSION
        click.echo(f"relay {product_version()}, build {product_build()}, store schema {schema}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def relay() -> None:
    """Get status callbacks to external platforms: durable, batched, in order, never above their limits."""


class ExitWith(RelayError):
    """Ends a command with a code of its own and one line on standard error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        outcome: Any = in_language(relay, spoken()).main(args=arguments, prog_name="relay", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except (click.Abort, KeyboardInterrupt):
        click.echo(say("relay: interrupted"), err=True)
        return EXIT_INTERRUPTED
    except ExitWith as error:
        click.echo(escaped(f"relay: {error}"), err=True)
        return error.code
    except RelayError as error:
        click.echo(escaped(f"relay: {error}"), err=True)
        return EXIT_FAILED
    except Exception as error:  # a damaged page shows as errors of several kinds; all else is raised on
        if (damaged := _damaged(error)) is None:
            raise
        click.echo(escaped(f"relay: {damaged}"), err=True)
        return EXIT_FAILED
    return outcome if isinstance(outcome, int) else 0


def _damaged(error: Exception) -> StoreDamaged | None:
    """Return what tells of a damaged store, where a command that reads one by itself met such a page."""
    if "apsw" not in sys.modules:  # it opened no store
        return None
    from relay.store.sqlite.file.checksums import as_damaged

    return as_damaged(error)


def main() -> None:
    """Run the command line as this process."""
    streams.prepare()
    try:
        code = streams.finish(run())
    except OSError as error:
        if not streams.is_of_output(error):
            raise
        code = streams.failed(error)
    sys.exit(code)
