"""``relay simulate``: what a configuration would do with a load and a platform, in virtual time."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from relay.cli.commands.trying.platform_options import carried_options, latency_option, limit_option, over_option
from relay.cli.commands.trying.simulation_report import SimulatedRun, print_runs, runs_as_dict, svg_of
from relay.cli.support.config_file import chosen_file, load_config
from relay.cli.support.human import duration
from relay.cli.support.locate import WHERE
from relay.cli.support.output import output_option, print_record
from relay.cli.support.progress import Watched, bar
from relay.cli.words.sentences import say
from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration, parse_rate
from relay.core.clock import elapsed_s, wall_s, wall_shift_s
from relay.core.model import Filter
from relay.simulate.figures import figures
from relay.simulate.model import Outage, parse_outage
from relay.simulate.record import Record
from relay.simulate.run import Scenario, simulate
from relay.simulate.traffic import Traffic, parse_burst, read_times, replay
from relay.standin.settings import BadSetting, Settings

_MOST = 20_000_000  # callbacks; more would take over half an hour, and surely are a mistake
_LONG = 200_000  # callbacks; more take long enough for a bar
_SQLITE = b"SQLite format 3\x00"
_PAGE = 10_000


@click.command()
@click.option("-c", "--config", "config", metavar="FILE", help=f"The configuration to try. Default: {WHERE}.")
@click.option(
    "--platform", default=None, metavar="NAME", help="Which platform of the file; needed when there are several."
)
@click.option("--rate", default=None, metavar="RATE", help="What comes in: 50/s, 3000/min.")
@click.option("--for", "for_", default="1h", show_default=True, metavar="TIME", help="How long it comes in.")
@click.option("--burst", multiple=True, metavar="N@TIME", help="So many more at one moment: 3000@10m. Repeatable.")
@click.option(
    "--replay",
    "replay_",
    default=None,
    metavar="FILE",
    help="Take the accept times from a CSV or from a relay's store.",
)
@click.option("--keys", default=10_000, show_default=True, help="How many different ordering keys; 0 for none.")
@limit_option
@carried_options
@over_option("429")
@latency_option("50ms..200ms")
@click.option(
    "--failures",
    multiple=True,
    metavar="[ANSWER:]SHARE",
    help="0.01: one request in a hundred gets a 500. Or reset:0.01, ... Repeatable.",
)
@click.option(
    "--outage",
    multiple=True,
    metavar="TIME@TIME[:ANSWER]",
    help="30m@10m: down for 30 minutes, from minute 10 on. Repeatable.",
)
@click.option(
    "--compare", default=None, metavar="FILE", help="Show the same load under another configuration, side by side."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same output.")
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Draw the plots into this file, too."
)
@output_option
def simulate_command(
    config: str | None,
    platform: str | None,
    rate: str | None,
    for_: str,
    burst: tuple[str, ...],
    replay_: str | None,
    keys: int,
    limit: tuple[str, ...],
    over: str,
    latency: str,
    failures: tuple[str, ...],
    outage: tuple[str, ...],
    compare: str | None,
    seed: int,
    svg: Path | None,
    output: str,
    **carried: Any,
) -> None:
    """Try a configuration on a modelled platform: delays, backlog, requests, and what a change would do to them.

    Runs the daemon's own policy and pipeline in virtual time; an hour takes seconds. Sends and stores nothing.
    """
    files = [chosen_file(config), *([compare] if compare else [])]
    configs = [load_config(file) for file in files]
    name = platform or _only(list(configs[0].destinations), files[0])
    for file, loaded in zip(files, configs, strict=True):
        if name not in loaded.platforms:
            raise click.UsageError(f"{file} has no platform {name!r}; it has {', '.join(loaded.platforms)}")
    try:
        carried = {name: word for name, word in carried.items() if word}
        settings = _settings(limit, over=over, latency=latency, failures=failures, carried=carried)
        outages = tuple(sorted(parse_outage(word) for word in outage))
        traffic = Traffic(
            for_s=parse_duration(for_),
            rate=None if rate is None else parse_rate(rate),
            bursts=tuple(parse_burst(word) for word in burst),
            keys=keys,
        )
        if replay_ is not None:
            traffic = _replayed(traffic, replay_, name, whole=_is_default("for_"))
    except BadValue as bad:
        raise click.UsageError(bad.message + (f"; {bad.hint}" if bad.hint else "")) from bad
    except BadSetting as error:
        raise click.UsageError(str(error)) from error
    _check(traffic, keys, outages)
    if svg is not None:
        _check_writable(svg)
    runs = []
    for file, loaded in zip(files, configs, strict=True):
        scenario = Scenario(loaded, name, settings, outages, traffic, seed)
        runs.append(_simulated(file, scenario))
    limits = [*limit, *map(str, (*settings.items, *settings.bytes, *settings.points))]
    stated = _stated(runs[0].scenario, limit=limits, over=over, latency=latency, failures=failures, outage=outage)
    if output == "table":
        print_runs(runs, stated)
    else:
        print_record(runs_as_dict(runs, stated), output=output)
    if svg is not None:
        _draw(svg, svg_of(runs, stated))


def _only(names: Sequence[str], file: str) -> str:
    if len(names) != 1:
        raise click.UsageError(f"say which platform of {file}: --platform {' | '.join(names)}")
    return names[0]


def _is_default(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.DEFAULT


def _settings(
    limit: Sequence[str], *, over: str, latency: str, failures: Sequence[str], carried: Mapping[str, Any]
) -> Settings:
    """Read how the platform behaves. Raises ``BadSetting`` that names the option.

    ``carried``: the options about what requests carry.
    """
    if not limit and not carried and not _is_default("over"):
        raise BadSetting(f"--over {over} is the answer above a --limit: give one, such as --limit 80/min")
    faults = [word if ":" in word else f"500:{word}" for word in failures]
    given: dict[str, Any] = {"limit": list(limit), "over": over, "latency": latency, "fault": faults}
    given |= {name: list(word) if isinstance(word, tuple) else word for name, word in carried.items()}
    settings = Settings()
    for name, word in given.items():
        try:
            settings = settings.changed({name: word})
        except BadSetting as error:
            option = "failures" if name == "fault" else name
            raise BadSetting(f"--{option}: {str(error).removeprefix(f'{name}: ')}") from error
    return settings


def _check_writable(file: Path) -> None:
    """Check before the run, which may take minutes. The file keeps its content until there is a new drawing."""
    try:
        file.open("ab").close()
    except OSError as error:
        raise click.UsageError(f"--svg {file} cannot be written: {error.strerror or error}") from error


def _draw(file: Path, drawing: str) -> None:
    try:
        file.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"--svg {file} cannot be written: {error.strerror or error}") from error


def _check(traffic: Traffic, keys: int, outages: Sequence[Outage]) -> None:
    if keys < 0:
        raise click.UsageError(f"--keys {keys}: it cannot be negative; 0 means no ordering key")
    if not traffic.expected and traffic.rate is not None:
        raise click.UsageError(f"--for {duration(traffic.for_s)}: at {traffic.rate} nothing comes in; make it longer")
    if not traffic.expected:
        raise click.UsageError("say what comes in: --rate 50/s, --burst 3000@10m or --replay FILE")
    if traffic.expected > _MOST:
        raise click.UsageError(f"that is {traffic.expected:,} callbacks, more than {_MOST:,}: use a shorter --for")
    for outage in outages:
        if outage.start_s > traffic.for_s:
            begins, ends = duration(outage.start_s), duration(traffic.for_s)
            raise click.UsageError(f"--outage: it begins at {begins}, when nothing has come in since {ends} (--for)")


def _replayed(traffic: Traffic, file: str, platform: str, *, whole: bool) -> Traffic:
    """Return ``traffic`` with the accept times of ``file``. ``whole``: all of them, also after ``for_s``."""
    path = file.removeprefix("sqlite:")
    try:
        with open(path, "rb") as opened:
            is_store = opened.read(len(_SQLITE)) == _SQLITE
        if is_store:
            times = _stored(path, platform)
        else:
            with open(path, encoding="utf-8-sig") as lines:
                times = read_times(lines, file=file)
    except OSError as error:
        raise BadSetting(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadSetting(f"{file} is neither a relay's store nor a CSV in UTF-8") from error
    start_at, incoming = replay(times)
    for_s = max(incoming[-1].at_s, traffic.for_s if traffic.rate else 0.0) if whole else traffic.for_s
    return replace(traffic, replayed=incoming, start_at=start_at, for_s=for_s)


def _stored(path: str, platform: str) -> list[tuple[float, str | None]]:
    """Read the accept times of all callbacks that the store still has."""
    from relay.daemon.stores import open_reader  # loads the store's library

    reader = open_reader(f"sqlite:{Path(path).resolve()}")
    try:
        known = sorted(reader.totals())
        if platform not in known:
            raise BadSetting(f"{path} holds nothing of {platform}; it knows {', '.join(known) or 'no platform'}")
        shift_s = wall_shift_s(reader.clock.now(), wall_s())
        found: list[tuple[float, str | None]] = []
        cursor: str | None = None
        while True:
            items, cursor = reader.callbacks(Filter(platform=platform), cursor=cursor, limit=_PAGE)
            found += ((item.accepted_at + shift_s, item.key) for item in items)
            if cursor is None:
                return found[::-1]  # pages are newest first; callbacks accepted together keep their order
    finally:
        reader.close()


def _simulated(file: str, scenario: Scenario) -> SimulatedRun:
    """Run one scenario; show on a terminal how far a long one has come."""
    if scenario.traffic.expected < _LONG or not sys.stderr.isatty():
        return _ran(file, scenario, Record())
    expected = f"{scenario.traffic.expected:,}"
    click.echo(say("{file}: simulating {count} callbacks", file=file, count=expected), err=True)
    began_s = elapsed_s()
    with bar(file, scenario.traffic.for_s) as move:
        run = _ran(file, scenario, Watched(move, scenario.traffic.for_s))
    click.echo(say("{file}: took {time}", file=file, time=duration(elapsed_s() - began_s)), err=True)
    return run


def _ran(file: str, scenario: Scenario, record: Record) -> SimulatedRun:
    ended = simulate(scenario, record)
    return SimulatedRun(file, scenario, record, figures(scenario, record, ended))


def _stated(
    scenario: Scenario,
    *,
    limit: Sequence[str],
    over: str,
    latency: str,
    failures: Sequence[str],
    outage: Sequence[str],
) -> dict[str, str]:
    """Return the options in words."""
    traffic = scenario.traffic
    coming = []
    if traffic.rate is not None:
        coming.append(say("{rate} for {time}", rate=traffic.rate, time=duration(traffic.for_s)))
    for burst in traffic.bursts:
        coming.append(say("{count} at once at {when}", count=f"{burst.size:,}", when=duration(burst.at_s)))
    if traffic.replayed:
        last = traffic.replayed[-1].at_s
        coming.append(say("{count} replayed over {time}", count=f"{len(traffic.replayed):,}", time=duration(last)))
    if traffic.rate is not None or traffic.bursts:
        coming.append(say("{count} keys", count=f"{traffic.keys:,}") if traffic.keys else say("no keys"))
    platform = [say("no limit of its own")]
    if limit:
        platform = [say("lets through {limits}, answers {over} above", limits=", ".join(limit), over=over)]
    platform.append(say("answers in {latency}", latency=latency))
    platform += [say("fails {how}", how=word if ":" in word else f"500:{word}") for word in failures]
    platform += [say("down {when}", when=word) for word in outage]
    return {"comes in": "; ".join(coming), "platform": "; ".join(platform)}
