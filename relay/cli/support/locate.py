"""Finds the daemon that a command is for, and its store in case the daemon does not answer.

Only a few keys of the configuration are read and the rest is not checked: a command should work while a person edits
the file.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from relay.cli.support.client import TIMEOUT_S, Client
from relay.cli.words.sentences import say
from relay.config import service_unit
from relay.core.errors import RelayError
from relay.core.raw import JsonObject

_ADMIN = "127.0.0.1:8788"
_INGEST = "127.0.0.1:8787"
_HERE = "config.yaml"
WHERE = f"$RELAY_CONFIG, ./{_HERE}, {service_unit.FILE}"
"""Where a configuration is looked for when none is named: the first one there is."""
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
ACTING = ("operator", "admin", "privacy", "viewer")
"""Whose token is taken first: what most commands need."""
DESTROYING = ("privacy", "admin", *ACTING)
"""Whose token is taken first for a command that is not for operators."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a relay listens, the tokens for its listeners, and where its store is."""

    admin: str
    ingest: str
    store: str | None  # a store URL, absolute if it is a file; None: only an address was given
    platforms: tuple[str, ...] = field(default=())
    store_size: str = ""  # store.max_size as written
    admin_token: str | None = field(default=None, repr=False)
    ingest_token: str | None = field(default=None, repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)  # what the store is sealed with, if this process may read it
    admin_shown: str | None = None  # file with the certificate of the listener, where it speaks TLS
    ingest_shown: str | None = None
    broken: RelayError | None = None  # why the file could not be read; then the addresses are the defaults
    held: Path | None = None  # the file that its daemon holds a lock on

    def admin_client(self, *, waits: bool = False) -> Client:
        """Return a client of the admin listener; with ``waits`` it has no timeout."""
        timeout_s = None if waits else TIMEOUT_S
        return Client(
            self.admin, token=self.admin_token, timeout_s=timeout_s, shown=self.admin_shown, hint=self.admin_hint
        )

    def ingest_client(self, *, timeout_s: float = TIMEOUT_S) -> Client:
        """Return a client of the ingest listener."""
        return Client(
            self.ingest,
            token=self.ingest_token,
            token_from="RELAY_INGEST_TOKEN",  # noqa: S106 - its name
            timeout_s=timeout_s,
            shown=self.ingest_shown,
            hint=lambda: self._elsewhere(self.ingest, self.admin, option="--ingest"),
        )

    def admin_hint(self) -> str:
        """Return where the daemon listens for operators, if that is not where the file says; else an empty text."""
        return self._elsewhere(self.admin, self.ingest, option="--admin")

    def _elsewhere(self, tried: str, other: str, *, option: str) -> str:
        from relay.cli.support.lock_holder import holder, listens  # needed only where no daemon answers

        process = None if self.held is None else holder(self.held)
        if process is None:
            return ""
        addresses = listens(process)
        if tried in addresses:
            return ""
        words = (
            "; process {process} has its store: it starts or stops, or listens on the file's former address ({option})"
        )
        if others := [each for each in addresses if each != other]:
            words = (
                "; process {process} has its store and listens on {addresses}: the file has changed since it started, "
                "so use {option}, or restart it"
            )
        return say(words, process=process, addresses=", ".join(others), option=option)


def place_options(command: _Command) -> _Command:
    """Give a command ``-c/--config`` and ``--admin``."""
    for option in (
        click.option(
            "--admin", metavar="URL", help="Admin listener: host:port, unix:/path or http://host:port. Wins over -c."
        ),
        click.option("-c", "--config", metavar="FILE", help=f"Configuration of the daemon. Default: {WHERE}."),
    ):
        command = option(command)
    return command


def found_file() -> str:
    """Return the file for a command that names none: the first of ``WHERE`` that exists."""
    if named := os.environ.get("RELAY_CONFIG"):
        return named
    return next((file for file in (_HERE, str(service_unit.FILE)) if os.path.isfile(file)), _HERE)


def locate(
    config: str | None,
    *,
    admin: str | None = None,
    ingest: str | None = None,
    post_to: str | None = None,
    roles: Sequence[str] = ACTING,
) -> Place:
    """Return the place for a command's options and the environment.

    ``post_to`` is the platform or quota that the ingest listener is asked about: a token may be for some only.
    Of the users in the file one of ``roles`` is taken, the first that there is. Raises ``ConfigInvalid`` if a file
    that was named does not exist or may not be read.
    """
    named = config or os.environ.get("RELAY_CONFIG")
    path = Path(named or found_file())
    addressed = bool(admin or ingest) and not named  # the file found here may belong to another relay
    data: JsonObject = {}
    broken = None
    if named or (path.is_file() and not addressed):
        data, broken = _read(path, named=bool(named))
    users = _section(data, "admin").get("users")
    store = _absolute(_text(data, "store", "url", "sqlite:relay.db"), path)
    return Place(
        admin=admin or _text(data, "admin", "listen", _ADMIN),
        ingest=ingest or _text(data, "ingest", "listen", _INGEST),
        store=None if addressed else store,
        platforms=tuple(_section(data, "platforms")),
        store_size=_text(data, "store", "max_size", "2GiB"),
        admin_token=os.environ.get("RELAY_TOKEN") or (None if admin else _users_token(users, path, roles)),
        ingest_token=(
            os.environ.get("RELAY_INGEST_TOKEN")
            or os.environ.get("RELAY_TOKEN")
            or (None if ingest else _posting_token(_section(data, "ingest"), path, post_to))
        ),
        keys=_sealing_keys(data, path),
        admin_shown=None if admin else _shown(data, "admin", path),
        ingest_shown=None if ingest else _shown(data, "ingest", path),
        broken=broken,
        held=None if addressed else _held(data, store, path),
    )


def _read(path: Path, *, named: bool) -> tuple[JsonObject, RelayError | None]:
    from relay.config.problems import ConfigInvalid
    from relay.config.reading.include import read_whole  # loads PyYAML alone: pydantic would slow each command

    if not named and not os.access(path, os.R_OK):
        words = "{path} is not yours to read; the default addresses are tried (or use sudo)"
        click.echo(say(words, path=path), err=True)
        return {}, None
    try:
        return read_whole(path).data, None
    except ConfigInvalid as invalid:
        if all(problem.code == "E001" and problem.file == str(path) for problem in invalid.problems):
            raise
        # Broken in the middle of an edit. The daemon runs with what it read before, most likely at the default
        # addresses.
        words = "{problem}; the default addresses are tried (or use --admin)"
        click.echo(say(words, problem=invalid.problems[0]), err=True)
        return {}, invalid


def _section(data: JsonObject, name: str) -> JsonObject:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _text(data: JsonObject, section: str, key: str, default: str) -> str:
    value = _section(data, section).get(key)
    if isinstance(value, list) and value:
        value = value[0]
    return _ENV.sub(lambda match: os.environ.get(match[1], ""), value) if isinstance(value, str) else default


def _shown(data: JsonObject, section: str, config: Path) -> str | None:
    tls = _section(data, section).get("tls")
    cert = tls.get("cert") if isinstance(tls, dict) else None
    return str(config.resolve().parent / cert) if isinstance(cert, str) and cert else None


def _users_token(users: Any, config: Path, roles: Sequence[str]) -> str | None:
    """Return the token of a configured user, if this process may read one."""
    known = _mappings(users)
    for role in roles:
        for user in known:
            if user.get("role") == role and (token := _secret(user.get("token"), config)):
                return token
    return None


def _posting_token(ingest: JsonObject, config: Path, post_to: str | None) -> str | None:
    """Return the token for a post, if this process may read one: one for every platform, else one for ``post_to``."""
    tokens = _mappings(ingest.get("tokens"))
    for_all = [each for each in tokens if each.get("platforms") is None]
    for_this = [each for each in tokens if post_to in _list(each.get("platforms"))]
    written = [ingest.get("token"), *(each.get("token") for each in (*for_all, *for_this))]
    return next((found for each in written if (found := _secret(each, config)) is not None), None)


def _mappings(value: Any) -> list[JsonObject]:
    return [each for each in _list(value) if isinstance(each, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sealing_keys(data: JsonObject, config: Path) -> tuple[str, ...]:
    """Return the keys of ``privacy.encrypt``, the one in force first; none if this process may not read that."""
    encrypt = _section(data, "privacy").get("encrypt")
    if not isinstance(encrypt, dict):
        return ()
    former = encrypt.get("previous")
    written = [encrypt.get("key"), *(former if isinstance(former, list) else [])]
    found = [_secret(each, config) for each in written]
    return tuple(key for key in found if key is not None) if found[0] is not None else ()


def _secret(written: Any, config: Path) -> str | None:
    """Return the secret that a text in the file refers to; None if this process may not read it."""
    from relay.config.reading.references import Resolver

    if not isinstance(written, str) or not written:
        return None
    credentials = service_unit.credentials_directory(config, os.environ)
    beside = config.resolve().parent
    resolved = Resolver([beside] if credentials is None else [credentials, beside], os.environ).resolve({"": written})
    return None if resolved.problems else str(resolved.data[""])


def _held(data: JsonObject, store: str, config: Path) -> Path:
    """Return the file that a daemon holds a lock on: the one beside its store, or its spool where that is a server."""
    if store.startswith("sqlite:"):
        return Path(os.path.realpath(store.removeprefix("sqlite:")) + ".lock")
    spool = _text(_section(data, "store"), "spool", "path", "spool.db")
    return Path(_absolute(f"sqlite:{spool}", config).removeprefix("sqlite:"))


def _absolute(url: str, config: Path) -> str:
    """Return a relative ``sqlite:`` URL as ``relay run`` sees it (SPEC 5)."""
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite" or not rest or rest.startswith("/"):
        return url
    return f"sqlite:{service_unit.state_directory(config.absolute(), os.environ) / rest}"
