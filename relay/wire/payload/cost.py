"""How many points a callback costs, where its platform counts points: a number, or a field of the payload."""

import math
from collections.abc import Callable

from relay.wire.payload.extract import InvalidJson, KeyPath


def cost_reader(given: str | int) -> Callable[[bytes], int]:
    """Return what reads the cost of a payload; ``given``: a whole number above 0, or a JMESPath.

    Example: of ``{"weight": 2.5}`` the path ``weight`` finds 3. Where it finds no number above 0, the cost is 1.
    Raises ``ValueError`` for an expression that does not compile.
    """
    if isinstance(given, int):
        return lambda payload: given
    path = KeyPath(given)

    def read(payload: bytes) -> int:
        try:
            cost = float(path(payload) or 1)
        except (InvalidJson, ValueError):
            return 1
        return math.ceil(cost) if 0 < cost < 2**53 else 1

    return read
