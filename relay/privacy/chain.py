"""Chains audit records, so that none can be changed, dropped or moved without a trace; plain functions.

``hash_n = SHA-256(hash_{n-1} || record_n)``. A hash is written as 64 hex digits and goes into the next one so written;
``hash_0`` is 64 zeros. A record is JSON with sorted keys, no spaces, in UTF-8. An exported line is
``{"hash":...,"n":...,"record":...}``. With Python alone a line is checked so::

    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hash == hashlib.sha256((hash_before + text).encode()).hexdigest()

Old records are deleted at the beginning alone, and the deletion is a record of its own (``PRUNED``). It names the first
record that is left and the hash before it, so the rest can still be checked.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from relay.core.raw import Record

ORIGIN: Final = "0" * 64
"""The hash before the first record."""
PRUNED: Final = "audit.prune"
"""The action of a record that says where the chain starts now."""
CHAINED: Final = "audit.chain"
"""The action of a record that says which records are older than the chain."""
BY_ITSELF: Final = {"who": "relay", "role": "relay", "from": "relay"}
"""Whose deed it is, when nobody asked for it."""


class Link(NamedTuple):
    """One record in its chain: its number from 1, its hash, and its text."""

    n: int
    hash: str
    text: str

    def line(self) -> str:
        """Return it as an exported line."""
        return f'{{"hash":"{self.hash}","n":{self.n},"record":{self.text}}}'


class BrokenLink(NamedTuple):
    """The first record that is not as it was, and what is wrong with it."""

    n: int
    what: str


class ChainState(NamedTuple):
    """What came of looking at a chain: its first and last numbers (0: none), its last hash, and what is wrong."""

    first: int
    last: int
    hash: str
    fault: BrokenLink | None


def record_text(record: Record) -> str:
    """Return a record as the text that is hashed. What UTF-8 has no form for becomes a question mark."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()


def following(before: str, text: str) -> str:
    """Return the hash of the record ``text`` that follows the hash ``before``."""
    return hashlib.sha256((before + text).encode()).hexdigest()


def start_record(first: int, before: str, *, at: str | None) -> Record:
    """Return the record of a new start: the records before ``first`` are deleted, the last of them had ``before``."""
    return {
        **BY_ITSELF,
        "at": at,
        "action": PRUNED,
        "target": f"1..{first - 1}",
        "reason": "older than store.keep.audit",
        "details": {"first": first, "before": before},
    }


def former_record(count: int, *, at: str | None) -> Record:
    """Return the record that says that the ``count`` records before it were written before there was a chain."""
    return {
        **BY_ITSELF,
        "at": at,
        "action": CHAINED,
        "target": f"1..{count}",
        "reason": "kept before records were chained; chained when the store was upgraded",
        "details": {"records": count},
    }


def read_lines(lines: Iterable[str]) -> Iterator[Link | None]:
    """Return the exported lines as links; None for a line that is none."""
    for line in lines:
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            yield Link(_number(told["n"]), str(told["hash"]), record_text(told["record"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            yield None


def verify(links: Iterable[Link | None], *, head: str | None = None) -> ChainState:
    """Check a chain from its first link to its last, and that ``head``, a hash kept elsewhere, is in it.

    The beginning may be missing only where a later record states the new start. Records behind the last one are missed
    only with ``head``: a chain that was cut there looks like one that ended there.
    """
    found = list(links)
    if not found:
        fault = (
            None if head in (None, ORIGIN) else BrokenLink(1, "is missing, and all that followed it: nothing is left")
        )
        return ChainState(0, 0, ORIGIN, fault)
    first = min((link.n for link in found if link is not None), default=1)
    first -= found[0] is None and first > 1  # the line of the first record is broken
    before = ORIGIN if first == 1 else _stated_start(found, first)
    if before is None:
        fault = BrokenLink(
            1, f"is missing, and all before record {first}; no record states that the chain starts there"
        )
        return ChainState(first, 0, ORIGIN, fault)
    seen = {before}
    for n, link in enumerate(found, start=first):
        fault = _fault(n, link, before, found)
        if fault is not None or link is None:
            return ChainState(first, n - 1, before, fault)
        before = link.hash
        seen.add(before)
    last = first + len(found) - 1
    if head is not None and head.lower() not in seen:
        cut = BrokenLink(last + 1, "is missing: the chain ends before the head that was kept")
        return ChainState(first, last, before, cut)
    return ChainState(first, last, before, None)


def _fault(n: int, link: Link | None, before: str, found: list[Link | None]) -> BrokenLink | None:
    """Return what is wrong with the link where record ``n`` should stand, behind the hash ``before``."""
    if link is None:
        return BrokenLink(n, "was changed: its line is no record")
    if link.n < n:
        return BrokenLink(n, f"is none: record {link.n} stands there once more")
    if link.n != n:
        moved = any(other is not None and other.n == n for other in found)
        stands = f"record {link.n} stands in its place"
        return BrokenLink(n, f"was moved: {stands}" if moved else f"was dropped: {stands}")
    if following(before, link.text) != link.hash:
        return BrokenLink(n, "was changed: its hash is of another record, or of another one before it")
    return None


def _stated_start(found: Iterable[Link | None], first: int) -> str | None:
    """Return the hash before ``first`` as a record of a new start states it, or None."""
    for link in found:
        if link is None or PRUNED not in link.text:
            continue
        record = json.loads(link.text)
        details = record.get("details")
        if record.get("action") == PRUNED and isinstance(details, dict) and details.get("first") == first:
            return str(details.get("before"))
    return None


def _number(told: Any) -> int:
    if type(told) is not int:
        raise TypeError("no number")
    return told
