"""Taobao TOP's logistics.offline.send: a signed form; always 200, errors in error_response.

Protocol and signatures: developer.alibaba.com/docs/doc.htm?articleId=101617. The bodies of the ban, of success and of
B04 are as public SDKs record them. The answer to a refused order is made up in their manner.
"""

import hashlib
import hmac
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import msgspec

from relay.standin.personalities.exchange import Callback, PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

_API = "taobao.logistics.offline.send"
_SKEW_S = 600.0
_CHINA = timezone(timedelta(hours=8))
_FIELDS = ("tid", "out_sid", "company_code")
_SERVICE = "isv.logistics-offline-service-error"


class TaobaoLogistics:
    """Knows an order by its tid. The session is the configured token, or one fetched with grant refresh_token."""

    token_path = "/token"  # noqa: S105 - a path

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options, first_token=options.token)

    @property
    def account(self) -> str:
        """The credentials that a client needs."""
        options = self.memory.options
        return f"app_key {options.app_id}, secret {options.secret}, session {options.token} or from {self.token_path}"

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Hand out a session for the refresh token, as oauth.taobao.com does."""
        form, options = request.form(), self.memory.options
        if (form.get("client_id"), form.get("client_secret")) != (options.app_id, options.secret):
            return PlatformAnswer(
                400, {"error": "invalid_client", "error_description": "client_id or client_secret is wrong"}
            )
        if form.get("grant_type") != "refresh_token" or not form.get("refresh_token"):
            return PlatformAnswer(400, {"error": "invalid_grant", "error_description": "refresh token is missing"})
        session = self.memory.tokens.issue(request.now)
        lives_s = int(options.token_ttl_s)
        return PlatformAnswer(
            200, {"access_token": session, "expires_in": lives_s, "refresh_token": form["refresh_token"]}
        )

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Check app, time, signature and session, then the order."""
        sent = {**request.query, **request.form()}
        raw = msgspec.json.encode({name: sent[name] for name in _FIELDS if name in sent})
        refused = self._protocol_fault(sent, request.now)
        if refused is not None:
            return _error(*refused, callbacks=(raw,))
        over_s = self.memory.over_s(request, (raw,))
        if over_s is not None:
            return self.over((raw,), over_s)
        missing = next((name for name in _FIELDS if not sent.get(name)), None)
        if missing is not None:
            return _error(40, "Missing required arguments", f"isv.missing-parameter:{missing}", callbacks=(raw,))
        match self.memory.fate(Callback(raw, sent)):
            case "refused":
                return _error(15, "Remote service error", f"{_SERVICE}:P04", "该订单不允许发货", callbacks=(raw,))
            case "later":
                return _error(520, "Remote service error", "isp.remote-service-timeout", callbacks=(raw,))
        if sent["tid"] in self.memory.taken:
            self.memory.counts["duplicate"] += 1
            return _error(
                15, "Remote service error", f"{_SERVICE}:B04", "该订单已发货或已关闭，不能重复发货", callbacks=(raw,)
            )
        self.memory.taken[sent["tid"]] = raw
        return PlatformAnswer(
            200, {"logistics_offline_send_response": {"shipping": {"is_success": True}}}, (raw,), (raw,), name="200 ok"
        )

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Say how long the ban lasts."""
        return _error(
            7,
            "App Call Limited",
            "accesscontrol.limited-by-api-access-count",
            f"This ban will last for {max(1, math.ceil(wait_s))} more seconds",
            callbacks=callbacks,
            limited=True,
        )

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _protocol_fault(self, sent: Mapping[str, str], now: float) -> tuple[int, str, str] | None:
        if sent.get("method") != _API:
            return 22, "Invalid method", "isv.invalid-method"
        if sent.get("app_key") != self.memory.options.app_id:
            return 29, "Invalid app Key", "isv.appkey-not-exists"
        if not _in_time(sent.get("timestamp", ""), now):
            return 31, "Invalid timestamp", "isv.invalid-timestamp"
        if not hmac.compare_digest(top_sign(sent, self.memory.options.secret), sent.get("sign", "")):
            self.memory.counts["bad_signature"] += 1
            return 25, "Invalid signature", "isv.invalid-signature"
        fault = self.memory.tokens.use(sent.get("session", ""), now)
        if fault is not None:
            self.memory.counts["bad_token"] += 1
            return 27, "Invalid session", "session-expired" if fault == "expired" else "invalid-sessionkey"
        return None


def top_sign(sent: Mapping[str, str], secret: str) -> str:
    """Return TOP's signature of the parameters, by their own sign_method: md5, hmac (MD5) or hmac-sha256."""
    pairs = "".join(name + value for name, value in sorted(sent.items()) if name != "sign" and value)
    match sent.get("sign_method"):
        case "hmac-sha256":
            return hmac.new(secret.encode(), pairs.encode(), "sha256").hexdigest().upper()
        case "hmac":
            return hmac.new(secret.encode(), pairs.encode(), "md5").hexdigest().upper()
    return hashlib.md5(f"{secret}{pairs}{secret}".encode(), usedforsecurity=False).hexdigest().upper()


def _in_time(stated: str, now: float) -> bool:
    try:
        at = datetime.strptime(stated, "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CHINA)
    except ValueError:
        return False
    return abs((at - datetime.fromtimestamp(now, UTC)).total_seconds()) <= _SKEW_S


def _error(
    code: int,
    message: str,
    sub_code: str,
    sub_message: str = "",
    *,
    callbacks: tuple[bytes, ...],
    limited: bool = False,
) -> PlatformAnswer:
    said = {"code": code, "msg": message, "sub_code": sub_code}
    body = {"error_response": said | ({"sub_msg": sub_message} if sub_message else {})}
    return PlatformAnswer(200, body, callbacks, name=f"200 error {code} {sub_code}", limited=limited)
