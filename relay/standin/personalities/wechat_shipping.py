"""WeChat's upload_shipping_info: 200 whatever happens, the outcome in errcode, one token at a time.

Bodies: developers.weixin.qq.com/community/develop/doc/0002e6e2c24e808dd432eabeb61c00 (44990) and
.../00022457990e5069d6712332766c00 (10060001); the codes of tokens from cgi-bin/token's page. What a refused order
draws (10060003, 10060004) is made up in their manner.
"""

from relay.standin.personalities.exchange import Asked, Callback, Told
from relay.standin.personalities.memory import Memory
from relay.standin.personalities.options import Options

_RID = "rid: 66fa8bb4-06a602c9-2af85707"
_GRACE_S = 300.0  # the old token lives so long when a new one is fetched
_DONE = (10060003, "支付单已使用重新发货机会")


class WechatShipping:
    """Orders by transaction_id. Split deliveries go on until the last; a whole one may be changed once."""

    token_path = "/cgi-bin/token"  # noqa: S105 - a path

    def __init__(self, options: Options) -> None:
        self.memory = Memory(options, grace_s=_GRACE_S)
        self._changed: set[str] = set()

    @property
    def account(self) -> str:
        """What lets a client in."""
        options = self.memory.options
        return f"client_id {options.app_id}, client_secret {options.secret}, token_url {self.token_path}"

    def token(self, asked: Asked) -> Told:
        """Hand out a token for appid and secret in the query."""
        options = self.memory.options
        if asked.query.get("appid") != options.app_id:
            return _error(40013, "invalid appid")
        if asked.query.get("secret") != options.secret:
            return _error(40001, "invalid credential, access_token is invalid or not latest")
        token = self.memory.tokens.issue(asked.now)
        return Told(200, {"access_token": token, "expires_in": int(options.token_ttl_s)})

    def decide(self, asked: Asked) -> Told:
        """Check the token, then the order."""
        fault = self.memory.tokens.use(asked.query.get("access_token", ""), asked.now)
        if fault is not None:
            self.memory.counts["bad_token"] += 1
            if fault == "expired":
                return _error(42001, "access_token expired", asked.body)
            return _error(40001, "invalid credential, access_token is invalid or not latest", asked.body)
        if self.memory.is_over():
            return self.over((asked.body,), 0.0)
        document = asked.json()
        order = document.get("order_key") if isinstance(document, dict) else None
        number = order.get("transaction_id") if isinstance(order, dict) else None
        if not isinstance(number, str) or not isinstance(document, dict):
            return _error(47001, "data format error", asked.body)
        match self.memory.fate(Callback(asked.body, document)):
            case "refused":
                return _error(10060004, "支付单处于不可发货的状态", asked.body)
            case "later":
                return _error(10060001, "支付单不存在", asked.body)
        return self._ship(number, asked.body, whole=document.get("is_all_delivered", True) is True)

    def over(self, callbacks: tuple[bytes, ...], wait_s: float) -> Told:
        """Say 44990; how long is not told."""
        told = _error(44990, "reach max api second frequence limit", *callbacks)
        return Told(told.status, told.body, told.callbacks, name=told.name, limited=True)

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return self.memory.figures()

    def _ship(self, number: str, body: bytes, *, whole: bool) -> Told:
        before = self.memory.taken.get(number)
        if before == body:
            self.memory.counts["duplicate"] += 1
            return _error(10060023, "发货信息未更新", body)
        if before is not None and whole:
            if number in self._changed:
                return _error(*_DONE, body)
            self._changed.add(number)  # the one re-ship that is allowed
        self.memory.taken[number] = body
        return Told(200, {"errcode": 0, "errmsg": "ok"}, (body,), (body,), name="200 errcode 0")


def _error(code: int, message: str, *callbacks: bytes) -> Told:
    return Told(200, {"errcode": code, "errmsg": f"{message} {_RID}"}, callbacks, name=f"200 errcode {code}")
