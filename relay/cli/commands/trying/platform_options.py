"""Options of the commands that play a platform: how it limits, and how it answers."""

from collections.abc import Callable
from typing import Any

import click

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

limit_option: _Decorator = click.option(
    "--limit",
    multiple=True,
    metavar="[KIND:]RATE",
    help="The platform's limit: at most so many requests, 100/min. KIND says how it counts: sliding (default), "
    "sliding+refused, fixed, bucket. 100000/day@+08:00 counts from midnight there. Repeatable: all hold.",
)


def carried_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--items``, ``--bytes``, ``--points`` and ``--cost``: the platform's limits on what requests carry."""
    for option in reversed(_CARRIED):
        command = option(command)
    return command


_CARRIED: tuple[_Decorator, ...] = (
    click.option(
        "--items", multiple=True, metavar="RATE", help="The platform's limit of callbacks: 6000/min. Repeatable."
    ),
    click.option(
        "--bytes",
        multiple=True,
        metavar="SIZE/TIME",
        help="The platform's limit of bytes of bodies as they come, compressed: 50MiB/min. Repeatable.",
    ),
    click.option(
        "--points", multiple=True, metavar="RATE", help="The platform's limit of points: 1000/min. Repeatable."
    ),
    click.option(
        "--cost",
        default=None,
        metavar="NUMBER|PATH",
        help="Points of a callback: a number, or a JMESPath into its payload. [default: 1]",
    ),
)


def over_option(default: str | None = None) -> _Decorator:
    """Return ``--over``; without ``default`` it is that of the stand-in, 429."""
    return click.option(
        "--over",
        default=default,
        show_default=True,
        metavar="ANSWER",
        help="The platform's answer above its limit: 429, 429+retry-after, 408, refuse (closes the port, so for every "
        "path), reset, 200+errcode." + ("" if default else " [default: 429]"),
    )


def latency_option(default: str | None = None) -> _Decorator:
    """Return ``--latency``; without ``default`` no answer is held back."""
    return click.option(
        "--latency",
        default=default,
        show_default=True,
        metavar="TIME[..TIME]",
        help="The platform holds every answer back: 200ms, or 0s..2s for a time between the two.",
    )
