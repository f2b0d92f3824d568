"""WooCommerce's orders/batch: 200 with an error for each failed entry (its id may be null); 413 above 100.

Bodies: github.com/woocommerce/woocommerce issue 22848 and WC_REST_Controller::check_batch_limit.
"""

import hashlib

from relay.core.raw import JsonObject
from relay.standin.bodies import MalformedBody, split_items
from relay.standin.personalities.exchange import Callback, PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

_MOST = 100


class WoocommerceBatch:
    """Knows an order by its id. ``app_id`` is the consumer key. An update is safe to repeat."""

    token_path = None

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options)

    @property
    def account(self) -> str:
        """The credentials that a client needs."""
        options = self.memory.options
        return f"user {options.app_id}, password {options.secret}"

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Answer 404: this platform has no tokens."""
        return _refusal(404, "rest_no_route", "No route was found matching the URL and request method.")

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Check the consumer, then each update."""
        try:
            callbacks = tuple(split_items(request.body, content_type="", shape="array", items_at="update"))
        except MalformedBody:
            return _refusal(400, "rest_invalid_json", "Invalid JSON body passed.")
        refused = self._credentials_fault(request)
        if refused is not None:
            self.memory.counts["bad_signature"] += 1
            return _refusal(401, "woocommerce_rest_authentication_error", refused, callbacks)
        over_s = self.memory.over_s(request, callbacks)
        if over_s is not None:
            return self.over(callbacks, over_s)
        if len(callbacks) > _MOST:
            what = f"Unable to accept more than {_MOST} items for this request."
            return _refusal(413, "woocommerce_rest_request_entity_too_large", what, callbacks)
        entries, taken = [], []
        for raw in callbacks:
            entry, is_taken = self._update(Callback.of(raw))
            entries.append(entry)
            if is_taken:
                taken.append(raw)
        failed = sum("error" in entry for entry in entries)
        name = f"200 {failed} of {len(entries)} failed" if failed else ""
        return PlatformAnswer(200, {"update": entries}, callbacks, tuple(taken), name=name)

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Say 429 as a host in front of the shop does."""
        return PlatformAnswer.above_limit(b"<h1>429 Too Many Requests</h1>", callbacks, wait_s)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _credentials_fault(self, request: PlatformRequest) -> str | None:
        options = self.memory.options
        user, _, password = (request.basic() or "").partition(":")
        if user != options.app_id:
            return "Consumer key is invalid."
        return None if password == options.secret else "Consumer secret is invalid."

    def _update(self, callback: Callback) -> tuple[JsonObject, bool]:
        fields = callback.fields if isinstance(callback.fields, dict) else {}
        if not isinstance(fields.get("id"), int):
            return _failed("woocommerce_rest_shop_order_invalid_id", "Invalid ID.", 400), False
        match self.memory.fate(callback):
            case "refused":
                return _failed("woocommerce_rest_shop_order_invalid_id", "Invalid ID.", 400), False
            case "later":
                return _failed("internal_server_error", "There has been a critical error.", 500), False
        name = hashlib.sha1(callback.raw, usedforsecurity=False).hexdigest()
        if name in self.memory.taken:
            self.memory.counts["duplicate"] += 1
        self.memory.taken[name] = b""
        return {"id": fields["id"], "status": fields.get("status", "processing")}, True


def _failed(code: str, message: str, status: int) -> JsonObject:
    return {"id": None, "error": {"code": code, "message": message, "data": {"status": status}}}


def _refusal(status: int, code: str, message: str, callbacks: tuple[bytes, ...] = ()) -> PlatformAnswer:
    body = {"code": code, "message": message, "data": {"status": status}}
    return PlatformAnswer(status, body, callbacks, name=f"{status} {code}")
