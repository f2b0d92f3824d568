"""WeChat's upload_shipping_info: always 200, the outcome in errcode; one token at a time.

Sources: developers.weixin.qq.com/community/develop/doc/0002e6e2c24e808dd432eabeb61c00 for 44990,
.../00022457990e5069d6712332766c00 for 10060001, the page of cgi-bin/token for the codes of tokens. The answers to a
refused order (10060003, 10060004) are made up in their manner.
"""

from relay.standin.personalities.exchange import Callback, PlatformAnswer, PlatformRequest
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

_RID = "rid: 66fa8bb4-06a602c9-2af85707"
_GRACE_S = 300.0  # how long the old token lives on when a new one is fetched
_DONE = (10060003, "支付单已使用重新发货机会")


class WechatShipping:
    """Knows an order by its transaction_id. Takes all parts of a split delivery; a whole one may change once."""

    token_path = "/cgi-bin/token"  # noqa: S105 - a path

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options, grace_s=_GRACE_S)
        self._changed: set[str] = set()

    @property
    def account(self) -> str:
        """The credentials that a client needs."""
        options = self.memory.options
        return f"client_id {options.app_id}, client_secret {options.secret}, token_url {self.token_path}"

    def token(self, request: PlatformRequest) -> PlatformAnswer:
        """Hand out a token for appid and secret in the query."""
        options = self.memory.options
        if request.query.get("appid") != options.app_id:
            return _error(40013, "invalid appid")
        if request.query.get("secret") != options.secret:
            return _error(40001, "invalid credential, access_token is invalid or not latest")
        token = self.memory.tokens.issue(request.now)
        return PlatformAnswer(200, {"access_token": token, "expires_in": int(options.token_ttl_s)})

    def decide(self, request: PlatformRequest) -> PlatformAnswer:
        """Check the token, then the order."""
        fault = self.memory.tokens.use(request.query.get("access_token", ""), request.now)
        if fault is not None:
            self.memory.counts["bad_token"] += 1
            if fault == "expired":
                return _error(42001, "access_token expired", request.body)
            return _error(40001, "invalid credential, access_token is invalid or not latest", request.body)
        over_s = self.memory.over_s(request, (request.body,))
        if over_s is not None:
            return self.over((request.body,), over_s)
        document = request.json()
        order = document.get("order_key") if isinstance(document, dict) else None
        number = order.get("transaction_id") if isinstance(order, dict) else None
        if not isinstance(number, str) or not isinstance(document, dict):
            return _error(47001, "data format error", request.body)
        match self.memory.fate(Callback(request.body, document)):
            case "refused":
                return _error(10060004, "支付单处于不可发货的状态", request.body)
            case "later":
                return _error(10060001, "支付单不存在", request.body)
        return self._ship(number, request.body, whole=document.get("is_all_delivered", True) is True)

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> PlatformAnswer:
        """Answer 44990, without saying how long the limit lasts."""
        answer = _error(44990, "reach max api second frequence limit", *callbacks)
        return PlatformAnswer(answer.status, answer.body, answer.callbacks, name=answer.name, limited=True)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _ship(self, number: str, body: bytes, *, whole: bool) -> PlatformAnswer:
        before = self.memory.taken.get(number)
        if before == body:
            self.memory.counts["duplicate"] += 1
            return _error(10060023, "发货信息未更新", body)
        if before is not None and whole:
            if number in self._changed:
                return _error(*_DONE, body)
            self._changed.add(number)  # the one re-ship that is allowed
        self.memory.taken[number] = body
        return PlatformAnswer(200, {"errcode": 0, "errmsg": "ok"}, (body,), (body,), name="200 errcode 0")


def _error(code: int, message: str, *callbacks: bytes) -> PlatformAnswer:
    return PlatformAnswer(200, {"errcode": code, "errmsg": f"{message} {_RID}"}, callbacks, name=f"200 errcode {code}")
