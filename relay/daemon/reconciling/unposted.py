"""Tells the order center, where it takes receipts, of the orders that it never posted."""

from collections.abc import Iterator, Sequence

from relay.core.model import NewCallback
from relay.core.receipts import ReceiptRules
from relay.reconcile.results import DifferenceLine
from relay.store.receipts import Receipt, receipt_row

_MOST = 10_000  # of one run: more are no forgotten posts, and the report lists them
_AT_ONCE = 500


class Unposted:
    """The orders of one run with the proposal `post`."""

    def __init__(self, platform: str) -> None:
        self._platform = platform
        self._orders: list[tuple[str, str, str, str]] = []  # key, status, since when, why

    def note(self, line: DifferenceLine) -> None:
        """Take note of a difference."""
        center = line["order_center"]  # None: it does not list the order, so it has nothing to post
        if line["proposal"] == "post" and center is not None and len(self._orders) < _MOST:
            self._orders.append((line["key"], center["status"], center["at"] or "", line["why"] or ""))

    def receipts(self, rules: ReceiptRules) -> Iterator[Sequence[NewCallback]]:
        """Yield the rows of their receipts. An order is told once for a status, as long as its receipt is kept."""
        rows = [self._row(rules, *order) for order in self._orders]
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE]

    def _row(self, rules: ReceiptRules, key: str, status: str, at: str, why: str) -> NewCallback:
        receipt = Receipt(
            id="",
            platform=self._platform,
            key=key,
            event=None,
            idempotency_key=None,
            traceparent=None,
            state="not_posted",
            reason=f"reconcile: {why}",
            code=None,
            attempts=0,
            at=at,
            maybe_applied=False,
        )
        # Nothing of the run stands in it: what the next one tells of the same order is a repeat
        name = f"reconcile/{self._platform}/{why}/{status}/{at}/{key}"
        return receipt_row(receipt, rules)._replace(idempotency_key=name)
