"""Finds the daemon a command means, and its store for when nobody answers.

Only three keys of the configuration are read, without checking the rest: a command should work while the file on disk
is being edited.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

_ADMIN = "127.0.0.1:8788"
_INGEST = "127.0.0.1:8787"
_DEFAULT_FILE = "config.yaml"
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a relay listens and where its store lies."""

    admin: str
    ingest: str
    store: str | None  # a store URL, absolute where it is a file; None when only an address was given
    platforms: tuple[str, ...] = field(default=())


def place_options(command: _Command) -> _Command:
    """Give a command ``-c/--config`` and ``--admin``."""
    for option in (
        click.option(
            "--admin", metavar="URL", help="Admin listener: host:port, unix:/path or http://host:port. Wins over -c."
        ),
        click.option(
            "-c",
            "--config",
            metavar="FILE",
            help="Configuration of the daemon. Default: $RELAY_CONFIG, else ./config.yaml.",
        ),
    ):
        command = option(command)
    return command


def locate(config: str | None, *, admin: str | None = None, ingest: str | None = None) -> Place:
    """Return the place that a command's options and the environment mean.

    Raises ``ConfigInvalid`` when a file that was named cannot be read.
    """
    named = config or os.environ.get("RELAY_CONFIG")
    path = Path(named or _DEFAULT_FILE)
    addressed = bool(admin or ingest) and not named  # some relay: the file lying here may be another one's
    data = _read(path) if named or (path.is_file() and not addressed) else {}
    return Place(
        admin=admin or _text(data, "admin", "listen", _ADMIN),
        ingest=ingest or _text(data, "ingest", "listen", _INGEST),
        store=None if addressed else _absolute(_text(data, "store", "url", "sqlite:relay.db"), path),
        platforms=tuple(_section(data, "platforms")),
    )


def token() -> str | None:
    """Return the bearer token to show, from ``$RELAY_TOKEN``."""
    return os.environ.get("RELAY_TOKEN") or None


def _read(path: Path) -> dict[str, Any]:
    from relay.config.yamlsource import read_source  # PyYAML only: no pydantic on the way to a status line

    return read_source(path).data


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _text(data: dict[str, Any], section: str, key: str, default: str) -> str:
    value = _section(data, section).get(key)
    if isinstance(value, list) and value:
        value = value[0]
    return _ENV.sub(lambda match: os.environ.get(match[1], ""), value) if isinstance(value, str) else default


def _absolute(url: str, config: Path) -> str:
    """Return a relative ``sqlite:`` URL as systemd and ``relay run`` see it (SPEC 5)."""
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite" or not rest or rest.startswith("/"):
        return url
    base = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return f"sqlite:{(Path(base) if base else config.absolute().parent) / rest}"
