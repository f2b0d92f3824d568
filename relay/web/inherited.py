"""The sockets that systemd opened for this process (sd_listen_fds(3)), and which listener each one is for."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.core.errors import ConfigUnusable, RelayError
from relay.web.sockets import address_text, resolved

_FIRST_FD = 3  # sd_listen_fds(3)


class Inherited(NamedTuple):
    """One socket, with the ``FileDescriptorName=`` of its unit; without one systemd gives it the unit's name."""

    name: str
    sock: socket.socket

    @property
    def address(self) -> str:
        """Where it listens, as a configuration would say it."""
        return address_text(self.sock.getsockname())


def inherited_sockets(environ: Mapping[str, str], *, pid: int) -> list[Inherited]:
    """Return the sockets opened for the process ``pid``. Raises ``RelayError`` for what cannot be listened on."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "0")
    if not count.isascii() or not count.isdigit():
        raise RelayError(f"LISTEN_FDS is {count!r}, not a number of sockets: the service manager sets it, nobody else")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[Inherited] = []
    for place in range(int(count)):
        name = names[place] if place < len(names) else ""
        found.append(Inherited(name, _listening(_FIRST_FD + place, name)))
    return found


def _listening(fd: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise RelayError(f"the descriptor {fd} ({name}) from systemd is no socket ({error.strerror})") from error
    if sock.type != socket.SOCK_STREAM or not listens:
        raise RelayError(f"the socket {name!r} from systemd takes no connections: use ListenStream= and Accept=no")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


async def shared_out(sockets: Sequence[Inherited], listeners: Sequence[tuple[str, str]]) -> list[list[socket.socket]]:
    """Return the sockets of each of ``listeners``, given as name and configured address.

    A socket belongs to the listener with its address. If none has it, the socket belongs to the listener with its name
    (``FileDescriptorName=`` of the socket unit). Raises ``RelayError`` for a socket that has neither, or the name of
    one listener and the address of another.
    """
    shares: list[list[socket.socket]] = [[] for _ in listeners]
    if not sockets:
        return shares
    own = [await _places(address) for _, address in listeners]
    known = list(dict.fromkeys(name for name, _ in listeners))
    for each in sockets:
        at = next((at for at, places in enumerate(own) if _place(each.sock) in places), None)
        if at is None:
            at = next((at for at, (name, _) in enumerate(listeners) if name == each.name), None)
        if at is None:
            wanted = " or ".join(f"FileDescriptorName={name}" for name in known)
            configured = ", ".join(address for _, address in listeners)
            raise ConfigUnusable(
                f"systemd passed a socket named {each.name or 'nothing'} at {each.address}: set {wanted} in its unit, "
                f"or listen on its address (configured are {configured})"
            )
        if each.name in known and each.name != listeners[at][0]:
            raise ConfigUnusable(
                f"systemd passed a socket named {each.name} at {each.address}, which is the address of "
                f"{listeners[at][0]}: change FileDescriptorName= or ListenStream= in its unit"
            )
        shares[at].append(each.sock)
    return shares


async def _places(address: str) -> set[tuple[str, int]]:
    if address.startswith("unix:"):
        return {_unix_place(address.removeprefix("unix:"))}
    return {target[:2] for _, target in await resolved(address)}


def _place(sock: socket.socket) -> tuple[str, int]:
    name = sock.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else _unix_place(os.fsdecode(name))


def _unix_place(path: str) -> tuple[str, int]:
    return os.path.realpath(path), 0  # /var/run is a link to /run
