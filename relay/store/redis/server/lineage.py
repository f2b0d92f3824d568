"""Which server answers, and whether its data goes on from what another one had.

Each process of a server draws a ``run_id``. Each primary draws a name for the history of its data (``master_replid``).
A replica that is promoted draws a new one and keeps the former one (``master_replid2``):
https://valkey.io/topics/replication
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Lineage(NamedTuple):
    """The server at the other end of a connection; with an empty ``run_id`` none has been met."""

    run_id: str = ""
    address: str = ""
    history: str = ""
    before: str = ""  # the history that it followed when it was promoted

    @property
    def promoted(self) -> bool:
        """Whether it followed another server since it was started; zeros stand for no history."""
        return bool(self.before.strip("0"))

    @property
    def text(self) -> str:
        """What is kept in the store of the server that has all of a platform's attempts."""
        return f"{self.address} {self.run_id} {self.history}"


def lineage_of(info: Mapping[str, Any], address: str) -> Lineage:
    """Return what a server at ``address`` says of itself, in the sections ``server`` and ``replication`` of INFO."""
    return Lineage(
        str(info.get("run_id", "")),
        address,
        str(info.get("master_replid", "")),
        str(info.get("master_replid2", "")),
    )


def goes_on(kept: str, now: Lineage, *, aof: bool) -> bool:
    """Say whether the server has all that the one of ``kept`` (``Lineage.text``) had when it ended.

    1. It is the same process.
    2. A promoted replica may lack the last writes. Whom it followed last need not be the one of ``kept``: others may
       have been primaries between the two.
    3. Any other at the same address is the same server, started again. With an append-only file that is waited for
       (``aof``) it has everything.
    """
    address, run_id, _ = kept.split(" ")
    if run_id == now.run_id:
        return True
    return aof and not now.promoted and address == now.address
