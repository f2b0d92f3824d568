"""The callbacks that the benchmarks post: status changes of orders, padded to a size, every one with its own key."""

_STATUSES = ("paid", "packed", "shipped", "delivered", "refunded")


def payload(number: int, *, size: int, sent: float | None = None) -> bytes:
    """Return one JSON callback of about ``size`` bytes; ``sent`` stamps it for the sink."""
    stamp = f'"sent":{sent:.6f},' if sent is not None else ""
    start = f'{{"order_id":"o{number:011d}",{stamp}"status":"{_STATUSES[number % 5]}","shop":"shop-a","note":"'
    return (start + _note(number, size - len(start) - 2) + '"}').encode()


def bulk_body(first: int, *, lines: int, size: int) -> bytes:
    """Return ``lines`` callbacks as NDJSON, numbered from ``first``."""
    return b"\n".join([payload(number, size=size) for number in range(first, first + lines)]) + b"\n"


def _note(number: int, length: int) -> str:
    # digits that differ from callback to callback: padding that is all alike would flatter the compression
    word = f"{number * 2654435761 % 2**64:020d} item packed and handed to the carrier; "
    return (word * (length // len(word) + 1))[:length]
