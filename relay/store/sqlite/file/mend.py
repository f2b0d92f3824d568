"""Mends pages of which one byte is not what was written: their checksum tells which byte, and what it was.

The checksum of ``cksumvfs`` is a pair of sums modulo 2**32 (https://www.sqlite.org/cksumvfs.html): going through a
page's words in pairs (a, b), ``s1 += a + s2`` and ``s2 += b + s1``. So a word that is off by ``d`` moves the sums by
``d`` times two factors that belong to its place alone. How far the sums are off gives ``d`` for each place, and a place
is right where both sums agree and ``d`` changes one byte. More than one such place, or none: more is damaged.
"""

import shutil
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from relay.store.sqlite.file.checksums import PAGE_BYTES, ROOM_AT, ROOM_BYTES, mismatches, switched_off

_SUMS = struct.Struct("<II")
_WORDS = (PAGE_BYTES - ROOM_BYTES) // 4
_DATA = struct.Struct(f"<{_WORDS}I")
_MODULUS = 1 << 32


class Mended(NamedTuple):
    """A byte that can be put right: its page from 1, its place in the page, what is there, and what was written."""

    page: int
    at: int
    found: int
    right: int


def changed_bytes(file: Path) -> list[Mended]:
    """Return the bytes of ``file`` that can be put right: of each damaged page one, where no other of it is wrong.

    Nothing is returned of a file without checksums: its first page has none, mended or not.
    """
    found: list[Mended] = []
    for number, page in mismatches(file):
        changed = (ROOM_AT, ROOM_BYTES) if number == 1 and switched_off(page) else _changed(page)
        if number == 1:
            mended = bytearray(page)
            if changed is not None:
                mended[changed[0]] = changed[1]
            if changed is None or mended[ROOM_AT] != ROOM_BYTES:
                return []
        if changed is not None:
            at, right = changed
            found.append(Mended(number, at, page[at], right))
    return found


def mended_copy(file: Path, copy: Path) -> list[Mended]:
    """Make ``copy`` of a file in which bytes can be put right, with these put right; return them."""
    changed = changed_bytes(file)
    if changed:
        shutil.copyfile(file, copy)
        with copy.open("r+b") as opened:
            for one in changed:
                opened.seek((one.page - 1) * PAGE_BYTES + one.at)
                opened.write(bytes((one.right,)))
    return changed


def _changed(page: bytes) -> tuple[int, int] | None:
    """Return the place of the one wrong byte of a page, and what was there; None where more is wrong."""
    words = _DATA.unpack_from(page)
    kept, counted = _SUMS.unpack_from(page, _DATA.size), _sums(words)
    in_the_sums = _one_byte(_SUMS.pack(*kept), _SUMS.pack(*counted))
    found = [] if in_the_sums is None else [(_DATA.size + in_the_sums[0], in_the_sums[1])]
    off1, off2 = ((one - other) % _MODULUS for one, other in zip(kept, counted, strict=True))
    for place, (factor1, factor2, inverse, of_first) in enumerate(_factors()):
        off = (off1 if of_first else off2) * inverse % _MODULUS
        if off * factor1 % _MODULUS != off1 or off * factor2 % _MODULUS != off2:
            continue
        there, right = words[place], (words[place] + off) % _MODULUS
        one = _one_byte(there.to_bytes(4, "little"), right.to_bytes(4, "little"))
        if one is not None:
            found.append((place * 4 + one[0], one[1]))
    return found[0] if len(found) == 1 else None


def _sums(words: tuple[int, ...]) -> tuple[int, int]:
    s1 = s2 = 0
    for a, b in zip(words[::2], words[1::2], strict=True):
        s1 = (s1 + a + s2) % _MODULUS
        s2 = (s2 + b + s1) % _MODULUS
    return s1, s2


@cache
def _factors() -> tuple[tuple[int, int, int, bool], ...]:
    """Return of each word by how much it moves both sums, the inverse of one of them, and whether of the first.

    They are neighbours in Fibonacci's series, so one of the two is odd and has an inverse.
    """

    def backwards() -> Iterator[tuple[int, int]]:
        first, second = (1, 1), (0, 1)  # of the last pair
        for _ in range(_WORDS // 2):
            yield second
            yield first
            first, second = _before(first), _before(second)

    made = []
    for factor1, factor2 in reversed(list(backwards())):
        of_first = factor1 % 2 == 1
        made.append((factor1, factor2, pow(factor1 if of_first else factor2, -1, _MODULUS), of_first))
    return tuple(made)


def _before(factors: tuple[int, int]) -> tuple[int, int]:
    """Return what a word moves the sums by that stands one pair before."""
    s1 = (factors[0] + factors[1]) % _MODULUS
    return s1, (factors[1] + s1) % _MODULUS


def _one_byte(there: bytes, right: bytes) -> tuple[int, int] | None:
    """Return the place of the one byte in which two texts differ, and the second's; None where it is not one."""
    differ = [at for at, (one, other) in enumerate(zip(there, right, strict=True)) if one != other]
    return (differ[0], right[differ[0]]) if len(differ) == 1 else None
