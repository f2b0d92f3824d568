"""A receiver of Standard Webhooks: it verifies the signature over the exact bytes and knows repeats by webhook-id.

The scheme is the spec of github.com/standard-webhooks/standard-webhooks. It leaves the bodies to the receiver.
"""

import base64
import hmac

from relay.standin.personalities.bearer import TOKEN_PATH, client, grant, refuse_bearer
from relay.standin.personalities.exchange import Callback, PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - published with the specification
_SKEW_S = 300.0


class StandardWebhooksReceiver:
    """Verifies with the secret of the option ``secret=whsec_...``; without it, with the published example."""

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options)
        self.token_path = TOKEN_PATH if options.bearer else None
        self._secret = options.secret if options.secret.startswith("whsec_") else EXAMPLE_SECRET

    @property
    def account(self) -> str:
        """The credentials that a client needs."""
        return ", ".join(part for part in (f"secret {self._secret}", client(self.memory)) if part)

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Hand out a bearer token."""
        return grant(request, self.memory)

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Check token and signature, then the callback."""
        callback = Callback(request.body, request.json())
        refused = refuse_bearer(request, self.memory)
        if refused is not None:
            return PlatformAnswer(
                refused.status, refused.body, (request.body,), headers=refused.headers, name=refused.name
            )
        fault = signature_fault(request, self._secret)
        if fault:
            self.memory.counts["bad_signature"] += 1
            return PlatformAnswer(401, {"error": fault}, (request.body,), name=f"401 {fault}")
        over_s = self.memory.over_s(request, (request.body,))
        if over_s is not None:
            return self.over((request.body,), over_s)
        match self.memory.fate(callback):
            case "refused":
                return PlatformAnswer(422, {"error": "this order is not known here"}, (request.body,))
            case "later":
                return PlatformAnswer(500, {"error": "try again"}, (request.body,))
        webhook_id = request.headers["webhook-id"]
        if webhook_id in self.memory.taken:
            self.memory.counts["duplicate"] += 1
            return PlatformAnswer(200, {}, (request.body,), name="200 duplicate")
        self.memory.taken[webhook_id] = request.body
        return PlatformAnswer(200, {}, (request.body,), (request.body,))

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Say 429 and when to come again."""
        return PlatformAnswer.above_limit({"error": "too many requests"}, callbacks, wait_s)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()


def signature_fault(request: PlatformRequest, secret: str) -> str:
    """Return what is wrong with the signature of a request; an empty text if nothing is."""
    webhook_id, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    if not webhook_id or not timestamp.isdigit():
        return "missing webhook headers"
    if abs(int(timestamp) - request.now) > _SKEW_S:
        return "timestamp outside of the tolerance"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + request.wire
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    given = request.headers.get("webhook-signature", "").split(" ")
    return "" if any(hmac.compare_digest(wanted, one) for one in given) else "invalid signature"
