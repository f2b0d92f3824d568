"""The process that compares: a ``Comparison`` on its first line of input, a line per difference on its output.

Where it must ask the platform it writes a line that asks, and reads the reply from its input: who started it holds the
platform's limits, tokens and connections. The last line is the summary.
"""

import os
import sys
from typing import TYPE_CHECKING

import apsw
import msgspec

from relay.core.clock import wall_s, wall_shift_s
from relay.core.errors import RelayError
from relay.daemon.stores import open_reader
from relay.reconcile.compare import compared
from relay.reconcile.job import Comparison, PlatformReply, Question, RelaySide, StoreKeys
from relay.sealing.master_keys import GivenKeys, KeySource
from relay.sealing.vault import VaultTransit
from relay.store.sqlite.file.checksums import as_damaged

if TYPE_CHECKING:
    from relay.daemon.reconciling.shared_rows import SharedRows
    from relay.store.sqlite.read.ledger import SqliteReader

_NICE = 10


def main() -> None:
    """Compare what the input asks for. Raises ``StoreUnusable``, ``KeysUnavailable`` and ``PermissionError``."""
    wanted = msgspec.json.decode(sys.stdin.buffer.readline(), type=Comparison)
    if wanted.background:
        os.nice(_NICE)
    reader = _open(wanted.relay)
    now = wall_s()
    shift_s = wall_shift_s(reader.clock.now(), now)
    try:
        for line in compared(wanted, reader.sent(wanted.platform), now=now, shift_s=shift_s, ask=_ask):
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    finally:
        reader.close()


def _open(relay: RelaySide) -> "SqliteReader | SharedRows":
    keys = _key_source(relay.opened_with)
    if relay.store.startswith("sqlite:"):
        return open_reader(relay.store, keys)
    from relay.daemon.reconciling.shared_rows import SharedRows  # the server's client is loaded only for it

    return SharedRows(relay.store, prefix=relay.prefix, keys=keys)


def _key_source(known: StoreKeys) -> KeySource | None:
    if known.vault is not None:
        return VaultTransit(*known.vault, previous=known.keys)
    return GivenKeys(known.keys[0], known.keys[1:]) if known.keys else None


def _ask(question: Question) -> PlatformReply:
    sys.stdout.buffer.write(msgspec.json.encode({"ask": question}) + b"\n")
    sys.stdout.buffer.flush()
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=PlatformReply)


if __name__ == "__main__":
    try:
        main()
    except (RelayError, PermissionError) as error:
        sys.exit(f"{error}")  # who started this shows it
    except apsw.Error as error:
        sys.exit(f"{as_damaged(error) or error}")
