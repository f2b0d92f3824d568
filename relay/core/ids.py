"""The public ids of callbacks. An id holds a sequence number and the tag of the store, so a look-up needs no index.

A sequence number is the acceptance time in microseconds; the store makes it unique and increasing. So ids sort by
acceptance. They are written in Crockford's base 32 (no I, L, O, U), which can be read aloud without mistakes.
"""

from collections.abc import Iterable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_SEQ_CHARS = 11
TAG_BITS = 20
_TAG_CHARS = TAG_BITS // 5
_PAIRS = [_ALPHABET[value >> 5] + _ALPHABET[value & 31] for value in range(1024)]


def encode_id(seq: int, tag: int) -> str:
    """Return the 15-character id of sequence number ``seq`` (55 bits) in the store with ``tag`` (20 bits)."""
    pairs = _PAIRS
    number = seq << TAG_BITS | tag
    return (
        _ALPHABET[number >> 70 & 31]
        + pairs[number >> 60 & 1023]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def encode_ids(seqs: Iterable[int], tag: int) -> list[str]:
    """Return the ids of several sequence numbers. Neighbours share a prefix, which makes this several times faster."""
    pairs = _PAIRS
    suffix = encode_id(0, tag)[_SEQ_CHARS:]
    ids: list[str] = []
    block, prefix = -1, ""
    for seq in seqs:
        if seq >> 10 != block:
            block = seq >> 10
            prefix = encode_id(seq, tag)[: _SEQ_CHARS - 2]
        ids.append(prefix + pairs[seq & 1023] + suffix)
    return ids


def decode_id(text: str, tag: int) -> int | None:
    """Return the sequence number in ``text``; None if it is no id of the store with ``tag``."""
    number = _value(text)
    return None if number is None or number & ((1 << TAG_BITS) - 1) != tag else number >> TAG_BITS


def written_id(text: str) -> str:
    """Return an id as it is given out, where it is looked up as text: people may type it in small letters."""
    return text.upper()


def number_in(text: str) -> int:
    """Return the sequence number in an id of any store; 0 if it is no id."""
    return (_value(text) or 0) >> TAG_BITS


def _value(text: str) -> int | None:
    if len(text) != _SEQ_CHARS + _TAG_CHARS:
        return None
    number = 0
    for character in text.upper():
        value = _VALUES.get(character)
        if value is None:
            return None
        number = number << 5 | value
    return number
