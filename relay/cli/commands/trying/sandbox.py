"""``relay sandbox``: a platform to try things on, with limits and faults, and a log of what arrived."""

import asyncio
import errno
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import uvloop

from relay.cli.commands.trying.platform_options import carried_options, latency_option, limit_option, over_option
from relay.cli.words.sentences import say
from relay.standin.platform import Platform
from relay.standin.settings import BadSetting, Settings


@click.command()
@click.option(
    "--listen", default="127.0.0.1:8790", show_default=True, help="Address of the stand-in; port 0 picks one."
)
@click.option(
    "--control",
    default=None,
    metavar="ADDRESS",
    help="A second address for settings and figures, reachable while connections are refused.",
)
@limit_option
@carried_options
@over_option()
@latency_option()
@click.option(
    "--fault",
    multiple=True,
    metavar="ANSWER:SHARE",
    help="Answer a share of the requests so: 500:0.05 is one in twenty. Also reset, hang, truncate, apply-then-reset. "
    "Repeatable.",
)
@click.option(
    "--outage", default=None, metavar="ANSWER", help="Answer every request so: 503, refuse (for every path), hang, ..."
)
@click.option(
    "--poison",
    default=None,
    metavar="FIELD",
    help="Answer 400 where a payload has this field with the value true. [default: poison]",
)
@click.option(
    "--accept",
    default=None,
    metavar="CODINGS",
    help="What bodies may be compressed with, or none. Others get a 415. [default: gzip,zstd]",
)
@click.option(
    "--max-bytes",
    default=None,
    metavar="SIZE",
    help="Answer 413 to larger bodies, counted after decoding. [default: 64MiB]",
)
@click.option(
    "--shape",
    default=None,
    type=click.Choice(["auto", "array", "ndjson", "single"]),
    help="How a body holds its callbacks. [default: auto]",
)
@click.option(
    "--items-at", default=None, metavar="PATH", help="Where the body's object holds the list of callbacks: data.items"
)
@click.option("--id-field", default=None, metavar="FIELD", help="Log this field of each callback too.")
@click.option("--reply", default=None, metavar="BODY", help="Body of a success.")
@click.option(
    "--personality",
    default=None,
    metavar="NAME[:OPTION=VALUE,...]",
    help="Answer as a platform does: wechat-shipping, taobao-logistics, standard-webhooks, woocommerce-batch, "
    "mixpanel-import, cloudevents. Options: fail, retry (shares), seed, token_ttl, token_requests, over_at, over_for, "
    "over_wait, bearer, app_id, secret, token, fail_field.",
)
@click.option(
    "--path",
    "paths",
    multiple=True,
    metavar="'PATH NAME=VALUE ...'",
    help="A path of its own: '/shop-b limit=30/min over=408'; repeatable. With over=refuse or outage=refuse the port "
    "is closed, and that is the same for all paths: use over=reset, or a sandbox for each.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write arrivals here, one JSON line each.",
)
@click.option(
    "--seed",
    type=int,
    default=None,
    help="The same seed repeats the same faults and latencies. Without it one is chosen and printed.",
)
def sandbox(
    listen: str, control: str | None, paths: tuple[str, ...], log: Path | None, seed: int | None, **words: Any
) -> None:
    """Run a platform stand-in: a real HTTP server that takes batches on any path.

    GET /_sandbox/stats and /_sandbox/log show what arrived; POST /_sandbox/settings {"outage": "503"} changes
    any option (named with _ for -) while it runs, with "path" for one path.
    """
    host, port = _address(listen, "--listen")
    control_port = None
    if control is not None:
        control_host, control_port = _address(control, "--control")
        if control_host != host:
            raise click.UsageError(f"--control {control}: use the host of --listen, {host}")
    given = {name: list(word) if isinstance(word, tuple) else word for name, word in words.items() if word}
    try:
        settings = Settings().changed(given)
        own = dict(_read_path(text, settings) for text in paths)
    except BadSetting as error:
        raise click.UsageError(str(error)) from error
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    platform = Platform(
        settings=settings, paths=own, host=host, port=port, control_port=control_port, seed=seed, log=log
    )
    uvloop.run(_serve(platform, seed=seed, limits=given.get("limit") or ["none"]))


async def _serve(platform: Platform, *, seed: int, limits: list[str]) -> None:
    try:
        await platform.start()
    except OSError as error:
        failed = f"cannot listen on {error.filename}" if error.filename else "cannot listen"
        hint = "choose another address"
        if error.errno == errno.EADDRINUSE:
            hint = "end the sandbox that may still run there, or choose another address"
        raise click.ClickException(f"{failed}: {error.strerror or error}; {hint}") from error
    words = "sandbox listening on {url} (limit {limits}; seed {seed})"
    click.echo(say(words, url=platform.url, limits=", ".join(limits), seed=seed))
    click.echo(say("figures at {url}", url=f"{platform.control_url}/stats"))
    for path, endpoint in {say("any other path"): platform.everywhere, **platform.paths}.items():
        if endpoint.personality is not None:
            name = endpoint.settings.personality.partition(":")[0]
            words = "sandbox answers as {name} on {path}: {account}"
            click.echo(say(words, name=name, path=path, account=endpoint.personality.account))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await platform.close()
    for path, figures in platform.figures_by_path().items():
        click.echo(_summary(path, figures))


def _summary(path: str, figures: Mapping[str, Any]) -> str:
    peaks = [say("{most} in {window} s", most=most, window=window) for window, most in figures["peaks"].items()]
    peaks += [say("{most} of {rate}", most=most, rate=rate) for rate, most in figures.get("most", {}).items()]
    return say(
        "sandbox ended: {path}: {requests} requests, {accepted} accepted, {rejected} above the limit; {callbacks} "
        "callbacks, {distinct} distinct, {duplicates} duplicates; {raw_bytes} bytes, {wire_bytes} on the wire; peak "
        "{peak}",
        path=path,
        requests=figures["requests"],
        accepted=figures["accepted"],
        rejected=figures["rejected"],
        callbacks=figures["callbacks"],
        distinct=figures["distinct"],
        duplicates=figures["duplicates"],
        raw_bytes=figures["raw_bytes"],
        wire_bytes=figures["wire_bytes"],
        peak=", ".join(peaks),
    )


def _address(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"{option} {text}: write HOST:PORT, for example 127.0.0.1:8790")
    return host.strip("[]"), int(port)


def _read_path(text: str, settings: Settings) -> tuple[str, Settings]:
    path, *words = text.split()
    if not path.startswith("/"):
        raise BadSetting(f"--path {text!r}: write the path first, then NAME=VALUE, as in '/shop-b limit=30/min'")
    pairs = [word.partition("=") for word in words]
    return path, settings.changed({name.replace("-", "_"): value for name, _, value in pairs})
