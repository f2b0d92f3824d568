"""Records what a process writes, and makes the disks that a loss of power could have left.

strace writes down every write, sync, truncation and removal in their order, with the bytes. What was written since the
last sync of its file may be on the disk or not, in any order, and cut at any sector: that is all a disk promises.
"""

import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
_CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename,openat"
_LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_FD = re.compile(r"^\d+<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_END = re.compile(r"\) += (?P<result>-?\d+)")


class Event(NamedTuple):
    """One thing that happened: ``kind`` is write, sync, truncate, remove, make or said."""

    kind: str
    path: str
    data: bytes = b""
    offset: int = 0


def record(directory: Path, arguments: Sequence[str], *, inject: str = "") -> tuple[list[Event], list[str], int]:
    """Run the workload in ``directory`` under strace; return the events, what it said, and its exit code.

    ``inject`` is a fault for strace, such as ``fdatasync:error=EIO:when=3``.
    """
    trace = directory.parent / f"{directory.name}.trace"
    command = ["strace", "-f", "-y", "-xx", "-s", "33554432", "-o", str(trace), "-e", f"trace={_CALLS}"]
    if inject:
        command += ["-e", f"inject={inject}"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.faults.laboratory.workload", *arguments],
        capture_output=True, check=False, timeout=200,
    )  # fmt: skip
    events = list(_events(trace, str(directory)))
    trace.unlink()
    return events, done.stdout.decode().splitlines(), done.returncode


def _events(trace: Path, below: str) -> Iterator[Event]:
    begun: dict[
        str, str
    ] = {}  # by thread: a call that strace wrote in two parts, because another thread's came between
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            if (match := _LINE.match(line.rstrip("\n"))) is None:
                continue
            pid, rest = match["pid"], match["rest"]
            if rest.endswith("<unfinished ...>"):
                begun[pid] = rest.removesuffix("<unfinished ...>").rstrip()
                continue
            if rest.startswith("<... "):
                rest = begun.pop(pid, "") + rest.partition("resumed>")[2]
            if (event := _event(rest, below)) is not None:
                yield event


def _event(call: str, below: str) -> Event | None:
    name, _, arguments = call.partition("(")
    end = _END.search(arguments)
    if end is None or int(end["result"]) < 0:
        return None
    result = int(end["result"])
    texts = [ast.literal_eval(f'b"{text}"') for text in _TEXT.findall(arguments)]
    if name == "openat":
        opened = re.search(r"\) += \d+<([^>]*)>", arguments)
        path = _plain(opened[1]) if opened else ""
        return Event("make", path) if "O_CREAT" in arguments and path.startswith(below) else None
    if name in ("unlink", "rename"):
        path = texts[0].decode()
        return Event("remove", path) if name == "unlink" and path.startswith(below) else None
    fd = _FD.match(arguments)
    path = _plain(fd["path"]) if fd else ""
    if name == "write" and arguments.startswith("1<"):
        return Event("said", "", texts[0])
    if not path.startswith(below):
        return None
    if name in ("fsync", "fdatasync"):
        return Event("sync", path)
    if name == "ftruncate":
        return Event("truncate", path, offset=int(re.findall(r", (\d+)\)", arguments)[0]))
    if name == "pwrite64":
        offset = int(re.findall(r", (\d+)\) +=", arguments)[0])
        return Event("write", path, texts[0][:result], offset)
    return Event("write", path, texts[0][:result], -1)


def _plain(path: str) -> str:
    """Return a path that strace may have written as bytes in hexadecimal."""
    return ast.literal_eval(f'b"{path}"').decode() if "\\x" in path else path


@dataclass
class _File:
    on_disk: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)

    def apply(self, event: Event, chance: random.Random | None = None) -> None:
        if event.kind == "truncate":
            if event.offset < len(self.on_disk):
                del self.on_disk[event.offset :]
            else:
                self.on_disk.extend(bytes(event.offset - len(self.on_disk)))
            return
        offset = len(self.on_disk) if event.offset < 0 else event.offset
        for begin in range(0, len(event.data), SECTOR_BYTES):
            if chance is not None and chance.random() < 0.5:
                continue
            piece = event.data[begin : begin + SECTOR_BYTES]
            end = offset + begin + len(piece)
            if len(self.on_disk) < end:
                self.on_disk.extend(bytes(end - len(self.on_disk)))
            self.on_disk[offset + begin : end] = piece

    def sync(self) -> None:
        for event in self.pending:
            self.apply(event)
        self.pending.clear()

    def after_power_loss(self, chance: random.Random) -> bytes:
        """Return what may be there: each unsynced write wholly, in part or not at all, and in any order."""
        left = _File(bytearray(self.on_disk))
        pending = list(self.pending)
        if chance.random() < 0.5:
            chance.shuffle(pending)
        for event in pending:
            fate = chance.random()
            if fate < 0.4:
                left.apply(event)
            elif fate < 0.7:
                left.apply(event, chance)
        return bytes(left.on_disk)


def power_loss(events: Sequence[Event], cut: int, chance: random.Random, target: Path, *, lying: bool = False) -> None:
    """Write into ``target`` what a loss of power after ``cut`` events could have left.

    ``lying`` is a disk that does not keep its word: no sync counts. It shows that the judge notices.
    """
    files: dict[str, _File] = {}
    for event in events[:cut]:
        if event.kind == "said":
            continue
        if event.kind == "remove":
            files.pop(event.path, None)
            continue
        file = files.setdefault(event.path, _File())
        if event.kind == "sync":
            if not lying:
                file.sync()
        elif event.kind != "make":
            file.pending.append(event)
    target.mkdir()
    for path, file in files.items():
        if not path.endswith(("-shm", ".lock")) and not Path(path).is_dir():
            (target / Path(path).name).write_bytes(file.after_power_loss(chance))
