"""Binds the sockets of a listening address: ``host:port``, ``[v6]:port`` or ``unix:/path``."""

import asyncio
import errno
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Any, NamedTuple

from relay.core.errors import ConfigUnusable, RelayError
from relay.web.guard import split_port

BACKLOG = 1024


class SocketFile(NamedTuple):
    """Who may connect to a socket file; ``group`` None: that of this process."""

    mode: int = 0o660
    group: str | None = None


_ANY = SocketFile()
Target = tuple[Any, ...]
"""A host's address and a port, with IPv6 also flow and scope."""

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # /etc/hosts has ::1 even if IPv6 is off


async def bind(address: str, file: SocketFile = _ANY) -> list[socket.socket]:
    """Return sockets bound to ``address``: one for each address its host name has (``localhost`` often has two).

    A unix socket gets the mode and group of ``file``.
    Addresses that this machine does not have are left out, unless no other remains. Raises ``RelayError`` that names
    the address and says what to do.
    """
    if address.startswith("unix:"):
        return [_bind_unix(Path(address.removeprefix("unix:")), file)]
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, target in await resolved(address):
            if target[1] == 0 and bound:  # any free port, but the same for all
                target = (target[0], bound[0].getsockname()[1], *target[2:])
            try:
                bound.append(_bind_tcp(family, target))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise _cannot(f"{address} ({address_text(target)})", error) from error
                missing = error
        if not bound and missing is not None:
            raise _cannot(address, missing) from missing
    except BaseException:  # whatever it was, also a cancellation: undone, then raised on
        for sock in bound:
            sock.close()
        raise
    return bound


async def resolved(address: str) -> list[tuple[socket.AddressFamily, Target]]:
    """Return all addresses that ``address`` (no unix path) has. Raises ``RelayError``."""
    host, port = split_port(address)
    if port is None:
        raise ConfigUnusable(f"cannot listen on {address}: write host:port, [v6]:port or unix:/path")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RelayError(f"cannot listen on {address}: the name does not resolve ({error.strerror})") from error
    return list(dict.fromkeys((each[0], each[4]) for each in found))


def _bind_tcp(family: socket.AddressFamily, target: Target) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart finds old connections in TIME_WAIT
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] must not also claim 0.0.0.0
        sock.bind(target)
        sock.listen(BACKLOG)  # two sockets may bind one address; only listening tells that it is in use
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def address_text(name: Any) -> str:
    """Return a socket's own address as the configuration writes it."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{os.fsdecode(name)}"


def _bind_unix(path: Path, file: SocketFile) -> socket.socket:
    try:
        if os.path.lexists(path):
            _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot(f"unix:{path}", error) from error
    try:
        sock.bind(str(path))
        # Nobody can connect before listen(), so there is no moment with another mode or group.
        if file.group is not None:
            shutil.chown(path, group=file.group)
        os.chmod(path, file.mode)
        sock.listen(BACKLOG)  # at once, as with TCP: a file that nobody listens on is taken for a dead process's
    except (OSError, LookupError) as error:
        sock.close()
        if isinstance(error, PermissionError) and file.group is not None:
            what = f"the group {file.group} cannot be given to it: run the relay as a member of that group"
            raise ConfigUnusable(f"cannot listen on unix:{path}: {what}") from error
        if isinstance(error, LookupError):
            raise ConfigUnusable(f"cannot listen on unix:{path}: there is no group {file.group}") from error
        raise _cannot(f"unix:{path}", error) from error
    sock.setblocking(False)
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket file that nobody listens on. Anything else at that path is left alone."""
    if not stat.S_ISSOCK(path.lstat().st_mode):  # nor is a symbolic link, wherever it leads
        raise ConfigUnusable(
            f"cannot listen on unix:{path}: a file that is no socket lies there; move it or listen elsewhere"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        else:
            raise RelayError(f"cannot listen on unix:{path}: another process serves it; stop it or listen elsewhere")


def _cannot(where: str, error: OSError) -> RelayError:
    """Return what to raise. A missing right is missing after a restart too; a port may be free by then."""
    kind = ConfigUnusable if error.errno == errno.EACCES else RelayError
    return kind(f"cannot listen on {where}: {_why(error)}")


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the process that has it (`ss -ltnp` shows it) or listen elsewhere"
    if error.errno == errno.EACCES:
        return (
            "permission denied; ports below 1024 and other people's directories need rights the relay should not have"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return str(error.strerror or error)
