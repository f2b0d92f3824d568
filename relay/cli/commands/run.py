"""``relay run``: the daemon, on uvloop if there is one, with its log on standard error."""

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING

import click

from relay.cli.main import EXIT_CONFIG, EXIT_FAILED, product_version
from relay.cli.support.locate import WHERE, found_file

if TYPE_CHECKING:
    from relay.config.schema.file import Config
    from relay.daemon.restarts import Restarts
    from relay.telemetry.events import Events
    from relay.telemetry.metrics import Metrics


@click.command()
@click.option("-c", "--config", "path", metavar="FILE", help=f"The configuration file. Default: {WHERE}.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="RELAY_LOG_LEVEL",
    show_default=True,
)
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), default="auto", show_default=True)
def run(path: str | None, log_level: str, log_format: str) -> int:
    """Accept callbacks and deliver them until SIGTERM.

    SIGHUP reloads the configuration. What is not delivered yet stays in the store. Exits 78 when the configuration
    cannot be used, 1 when anything else fails: the last line of the log says what and why.
    """
    gc.disable()  # what is imported stays: to look for garbage in it takes a seventh of a start
    from relay.config.load import load
    from relay.config.problems import ConfigInvalid
    from relay.core.clock import boottime_s
    from relay.core.errors import ConfigUnusable
    from relay.daemon.restarts import Restarts
    from relay.telemetry.events import Events
    from relay.telemetry.logging import bridge_stdlib, is_journal, make_logger
    from relay.telemetry.metrics import Metrics

    file = path or found_file()
    colours = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    journal = not colours and is_journal(sys.stderr.fileno(), os.environ)
    log = make_logger(file=sys.stderr.buffer, level=log_level, colours=colours, priorities=journal)
    bridge_stdlib(log)
    metrics = Metrics()
    events = Events(log=log, metrics=metrics)
    restarts = Restarts(os.environ.get("RUNTIME_DIRECTORY", ""))
    restarts.begin(boottime_s())  # before anything can fail

    try:
        config = load(file)
    except ConfigInvalid as invalid:
        problems = [str(problem) for problem in invalid.problems]
        if not journal and log_format != "json":  # a person started it by hand and reads it
            click.echo("\n".join(problems), err=True)
        if not colours:
            events.config_loaded(ok=False, file=file, problems=problems)
        restarts.ended_well()  # it will not be started again
        return EXIT_CONFIG
    try:
        return _serve(config, events, metrics, restarts)
    except ConfigUnusable as error:
        events.failed(error=error, exit_code=EXIT_CONFIG)
        return EXIT_CONFIG
    except Exception as error:  # noqa: BLE001 - of any kind: people look for it in the log
        events.failed(error=error, exit_code=EXIT_FAILED)
        return EXIT_FAILED


def _serve(config: "Config", events: "Events", metrics: "Metrics", restarts: "Restarts") -> int:
    warnings = [str(warning) for warning in config.warnings]
    events.config_loaded(ok=True, file=config.origin.file, problems=warnings)

    from relay.daemon.app import serve

    gc.collect()
    gc.set_threshold(20_000, 20, 20)  # a post makes some fifty objects and no cycles, so cycles are searched less often
    gc.freeze()  # what is imported by now lives as long as the process, so no collection needs to search it
    template = None
    if config.ingest.processes:
        from relay.daemon.acceptors.template import forked

        gc.freeze()
        gc.enable()
        template = forked()  # now: no thread and no loop runs yet
    gc.enable()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        version = product_version()
        return runner.run(
            serve(config, version=version, events=events, metrics=metrics, restarts=restarts, template=template)
        )


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on Linux: the standard loop does the same, more slowly
        return None
    return uvloop.Loop
