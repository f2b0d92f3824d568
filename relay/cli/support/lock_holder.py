"""Finds a relay that runs on this machine by the file it has locked, and the addresses it listens on.

It keeps the addresses that it was started with, whatever its file says by now. Linux tells of them (proc(5),
proc_locks(5)). Nothing is found elsewhere, and no address of a process of somebody else.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

_LISTENS, _UNIX_LISTENS = "0A", "00010000"  # TCP_LISTEN of the kernel, and __SO_ACCEPTCON among a socket's flags
_WORD = 4  # bytes: addresses are written as numbers of the machine


def holder(path: Path) -> int | None:
    """Return the process that holds a lock on a file; None where none does, or nobody can tell."""
    try:
        about = os.stat(path)
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if len(words) > 5 and words[5] == place and words[4].isdigit():
            return int(words[4]) or None  # 0: in another namespace
    return None


def listens(process: int) -> list[str]:
    """Return the addresses that a process listens on, ``host:port`` or ``unix:/path``; none where nobody can tell."""
    try:
        sockets = {_inode(Path(entry.path)) for entry in os.scandir(f"/proc/{process}/fd")}
        return [address for inode, address in _listened(Path(f"/proc/{process}/net")) if inode in sockets]
    except OSError:
        return []


def _inode(descriptor: Path) -> str:
    with suppress(OSError):  # closed meanwhile
        return os.readlink(descriptor).removeprefix("socket:[").removesuffix("]")
    return ""


def _listened(net: Path) -> Iterator[tuple[str, str]]:
    """Yield inode and address of every socket that is listened on there."""
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):
            for line in (net / name).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTENS:
                    yield rest[5], _address(local)
    for line in (net / "unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
        if flags == _UNIX_LISTENS and path:
            yield inode, f"unix:{path[0]}"


def _address(written: str) -> str:
    """Return ``0100007F:2254`` as ``127.0.0.1:8788``."""
    host, _, port = written.partition(":")
    words, step = bytes.fromhex(host), -1 if sys.byteorder == "little" else 1
    packed = b"".join(words[at : at + _WORD][::step] for at in range(0, len(words), _WORD))
    address = ip_address(packed)
    return f"[{address}]:{int(port, 16)}" if address.version == 6 else f"{address}:{int(port, 16)}"
