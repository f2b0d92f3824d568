"""The template of acceptors: a process that does nothing but fork itself when the daemon asks for one more.

The daemon forks it when all is imported and nothing runs yet: no thread, no loop, no open store. So the template may
fork at any time, and what was imported is in memory once, for the daemon and all acceptors together. Where a template
has ended, the daemon starts the next by ``python -m relay.daemon.acceptors.template CHANNEL``, which imports anew.

The channel is a socket pair that keeps messages apart. The daemon sends ``+PLACE PLACES`` with the descriptors of a new
acceptor. The template answers ``+PID``, or ``!ERRNO`` where it could not fork, and says ``=PID CODE`` when one ended.

Acceptors end with the template, and the template ends with the daemon: the kernel kills each when its parent is gone.
"""

import ctypes
import gc
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import NamedTuple, NoReturn

from relay.daemon.acceptors import child
from relay.daemon.acceptors.shared_room import SharedRoom

_MESSAGE_BYTES = 64
_DESCRIPTORS = 3  # of an acceptor: the stream, the connections that move, the room
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)
_M_MMAP_THRESHOLD, _FREED_BYTES = -3, 128 * 1024  # mallopt(3)


class Forked(NamedTuple):
    """A template that runs."""

    pid: int
    channel: socket.socket


def forked() -> Forked:
    """Fork a template from this process, which has neither threads nor a loop yet."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _be_template(its.fileno(), parent)
    its.close()
    return Forked(pid, ours)


def _be_template(channel: int, parent: int) -> NoReturn:
    """Serve in this process, and in each that is forked from it, until it ends."""
    code = 1
    try:
        _end_with_parent(parent, "relay-template")
        _keep_open([channel])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # of the whole group: Ctrl-C, a stop by systemd
        code = _serve(socket.socket(fileno=channel))
    finally:
        os._exit(code)


def _serve(channel: socket.socket) -> int:
    looks = selectors.DefaultSelector()
    looks.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in looks.select():
            if key.data is not None:
                _tell_end(channel, key.data)
                looks.unregister(key.fd)
                os.close(key.fd)
                continue
            message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, _DESCRIPTORS)
            if not message:
                return 0  # the daemon has ended
            parent = os.getpid()
            try:
                pid = os.fork()
            except OSError as error:
                channel.send(b"!%d" % (error.errno or 0))
                pid = -1
            if not pid:
                return _be_acceptor(parent, message, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            if pid > 0:
                looks.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                channel.send(b"+%d" % pid)


def _tell_end(channel: socket.socket, pid: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    channel.send(b"=%d %d" % (pid, code))


def _be_acceptor(parent: int, message: bytes, descriptors: list[int]) -> int:
    _end_with_parent(parent, "relay-acceptor")
    _keep_open(descriptors)
    place, places = map(int, message[1:].split())
    stream, moving, room = descriptors
    child.run(socket.socket(fileno=stream), socket.socket(fileno=moving), SharedRoom(room, place, places))
    return 0


def _end_with_parent(parent: int, name: str) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, name.encode())  # what ps and top show
    if os.getppid() != parent:
        os._exit(0)  # it ended before that was in force
    # As the unit does it for the daemon: freed bodies go back to the system. In a flood it is 118 MB in place of 339.
    with suppress(AttributeError):  # another libc than glibc
        libc.mallopt(_M_MMAP_THRESHOLD, _FREED_BYTES)


def _keep_open(descriptors: list[int]) -> None:
    """Close all descriptors but these; what is read and written is nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for each in map(int, os.listdir("/proc/self/fd")):
        if each > 2 and each not in descriptors:
            with suppress(OSError):  # the one that read the directory is closed already
                os.close(each)


def main() -> None:
    """Serve as a template that was started anew."""
    gc.collect()
    gc.set_threshold(20_000, 20, 20)  # as in `cli/commands/run.py`
    gc.freeze()
    _be_template(int(sys.argv[1]), os.getppid())


if __name__ == "__main__":
    main()
