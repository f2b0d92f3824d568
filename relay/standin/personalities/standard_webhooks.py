"""A receiver of Standard Webhooks: verifies the signature over the exact bytes, tells repeats by webhook-id.

The scheme: github.com/standard-webhooks/standard-webhooks, spec. What a receiver says in its bodies is its own choice.
"""

import base64
import hmac
import math

from relay.standin.personalities.bearer import TOKEN_PATH, client, grant, refuse_bearer
from relay.standin.personalities.exchange import Asked, Callback, Told
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - published with the specification
_SKEW_S = 300.0


class StandardWebhooksReceiver:
    """The secret is ``secret=whsec_...``, else the published example."""

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options)
        self.token_path = TOKEN_PATH if options.bearer else None
        self._secret = options.secret if options.secret.startswith("whsec_") else EXAMPLE_SECRET

    @property
    def account(self) -> str:
        """What lets a client in."""
        return ", ".join(part for part in (f"secret {self._secret}", client(self.memory)) if part)

    def token(self, asked: Asked) -> Told:
        """Hand out a bearer token."""
        return grant(asked, self.memory)

    def decide(self, asked: Asked) -> Told:
        """Check token and signature, then the callback."""
        callback = Callback(asked.body, asked.json())
        refused = refuse_bearer(asked, self.memory)
        if refused is not None:
            return Told(refused.status, refused.body, (asked.body,), headers=refused.headers, name=refused.name)
        fault = signature_fault(asked, self._secret)
        if fault:
            self.memory.counts["bad_signature"] += 1
            return Told(401, {"error": fault}, (asked.body,), name=f"401 {fault}")
        if self.memory.is_over():
            return self.over((asked.body,), self.memory.options.over_wait_s)
        match self.memory.fate(callback):
            case "refused":
                return Told(422, {"error": "this order is not known here"}, (asked.body,))
            case "later":
                return Told(500, {"error": "try again"}, (asked.body,))
        webhook_id = asked.headers["webhook-id"]
        if webhook_id in self.memory.taken:
            self.memory.counts["duplicate"] += 1
            return Told(200, {}, (asked.body,), name="200 duplicate")
        self.memory.taken[webhook_id] = asked.body
        return Told(200, {}, (asked.body,), (asked.body,))

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> Told:
        """Say 429 and when to come again."""
        headers = {"Retry-After": str(max(1, math.ceil(wait_s)))}
        return Told(429, {"error": "too many requests"}, callbacks, headers=headers, limited=True)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()


def signature_fault(asked: Asked, secret: str) -> str:
    """Return what is wrong with the signature of a request, empty where nothing is."""
    webhook_id, timestamp = asked.headers.get("webhook-id", ""), asked.headers.get("webhook-timestamp", "")
    if not webhook_id or not timestamp.isdigit():
        return "missing webhook headers"
    if abs(int(timestamp) - asked.now) > _SKEW_S:
        return "timestamp outside of the tolerance"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + asked.wire
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    given = asked.headers.get("webhook-signature", "").split(" ")
    return "" if any(hmac.compare_digest(wanted, one) for one in given) else "invalid signature"
