"""``relay run``: the daemon, on uvloop where there is one, logging to standard error."""

import asyncio
import gc
import sys

import click

from relay.cli.main import product_version


@click.command()
@click.option(
    "-c",
    "--config",
    "path",
    default="config.yaml",
    envvar="RELAY_CONFIG",
    show_default=True,
    help="The configuration file (or $RELAY_CONFIG).",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="RELAY_LOG_LEVEL",
    show_default=True,
)
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), default="auto", show_default=True)
def run(path: str, log_level: str, log_format: str) -> int:
    """Accept callbacks and deliver them until SIGTERM.

    SIGHUP reloads the configuration. What is not delivered yet stays in the store.
    """
    from relay.cli.configfile import load_config
    from relay.telemetry.events import Events
    from relay.telemetry.logging import bridge_stdlib, make_logger
    from relay.telemetry.metrics import Metrics

    config = load_config(path)
    colours = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    log = make_logger(file=sys.stderr.buffer, level=log_level, colours=colours)
    bridge_stdlib(log)
    metrics = Metrics()
    events = Events(log=log, metrics=metrics)
    events.config_loaded(ok=True, file=path, problems=[str(warning) for warning in config.warnings])

    from relay.daemon.app import serve

    gc.collect()
    gc.set_threshold(20_000, 20, 20)  # a post makes some fifty objects and no cycles: look for those less often
    gc.freeze()  # what is imported by now lives as long as the process: collections need not look at it
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(config, version=product_version(), events=events, metrics=metrics))


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # not on Linux: the standard loop is slower and otherwise the same
        return None
    return uvloop.Loop
