"""Keeps the board in a small file beside the store, so that a restart tells nothing twice and forgets no silence.

A file, not a row: it is written while the store cannot be. Whoever may read the store may read it; mode 0600.
"""

import os
from pathlib import Path

import msgspec

from relay.alerts.board import Board
from relay.telemetry.events import Events


class BoardFile:
    """Reads and writes the board. A file that cannot be read or written is told, and costs no more than a repeat."""

    def __init__(self, path: Path, *, events: Events) -> None:
        self._path = path
        self._events = events
        self._written = b""

    def load(self) -> Board:
        """Return what was kept, or an empty board."""
        try:
            self._written = self._path.read_bytes()
            return msgspec.json.decode(self._written, type=Board)
        except FileNotFoundError:
            return Board()
        except (OSError, msgspec.DecodeError) as error:
            self._events.alerts_not_kept(error=error)
            return Board()

    def encode(self, board: Board) -> bytes | None:
        """Return what to write for ``board``; None when it stands there already."""
        wanted = msgspec.json.encode(board)
        return None if wanted == self._written else wanted

    def write(self, data: bytes) -> None:
        """Put ``data`` in the file's place. Blocks; not synced: a power failure costs a repeat."""
        beside = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(beside, self._path)
            self._written = data
        except OSError as error:
            self._events.alerts_not_kept(error=error)
