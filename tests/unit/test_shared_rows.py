"""How rows are cut into scripts of a shared store."""

import pytest
from relay.store.redis.write.packing import CHUNK_BYTES, CHUNK_ROWS, chunks


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ([], []),
        ([CHUNK_BYTES * 3], [range(1)]),  # one row is never cut
        ([CHUNK_BYTES // 2] * 5, [range(2), range(2, 4), range(4, 5)]),
        ([CHUNK_BYTES - 10, 11, 1], [range(1), range(1, 3)]),
        ([1] * (CHUNK_ROWS + 1), [range(CHUNK_ROWS), range(CHUNK_ROWS, CHUNK_ROWS + 1)]),
    ],
)
def test_no_script_takes_too_many_rows_or_bytes(sizes: list[int], cut: list[range]) -> None:
    """A script holds the server up for all: a hundred rows at most, and 256 KiB."""
    assert list(chunks(sizes)) == cut
