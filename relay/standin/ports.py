"""Free loopback ports that stay free: for a process that listens later, or again after it was killed."""

import os
import socket
from pathlib import Path

_PORTS = range(20_000, 32_000)
_BLOCK = 50
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")

_left: list[int] = []
"""What is left of the last block."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that only this process hands out, once.

    The kernel gives none of these ports to an outgoing connection: they lie below the range of those
    (ip_local_port_range, 32768 to 60999 by default). A port that the kernel chose itself lies inside that range: while
    a daemon is down, a connection of any other program may get it, and the daemon cannot listen again.

    Processes that run at once share the ports in blocks of 50: who binds the first port of a block has the others.
    Raises ``OSError`` when no block is left.
    """
    while True:
        while _left:
            port = _left.pop(0)
            if (probe := _bound(port)) is not None:
                probe.close()
                return port
        holder = _first_of_a_block()
        first: int = holder.getsockname()[1]
        holder.detach()  # it stays open and bound until the process ends
        _left.extend(range(first + 1, first + _BLOCK))


def _first_of_a_block() -> socket.socket:
    lowest_ephemeral = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else _PORTS.stop
    ports = range(_PORTS.start, min(_PORTS.stop, lowest_ephemeral)) or _PORTS
    blocks = len(ports) // _BLOCK
    begin = os.getpid()  # the last run had another one, and its ports may still be closing
    for number in range(begin, begin + blocks):
        if (holder := _bound(ports[number % blocks * _BLOCK])) is not None:
            return holder
    raise OSError(f"no port from {ports.start} to {ports.stop - 1} is left on 127.0.0.1: end what listens there")


def _bound(port: int) -> socket.socket | None:
    """Return a socket bound to the port; None where somebody has it."""
    bound = socket.socket()
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        return None
    return bound
