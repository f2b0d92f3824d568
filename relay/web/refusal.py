"""Problems as RFC 9457 ``application/problem+json``, each with a stable ``code``.

A detail says which thing, why and what to do; it never repeats what the client sent (I15).
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from relay.web.response import Response, encoded

CONTENT_TYPE = "application/problem+json"


class ProblemKind(NamedTuple):
    """What all problems of a code share."""

    status: int
    title: str
    retry_after_s: int | None = None


# Codes are the contract (SPEC 3 and 4): clients branch on them, so they never change.
KINDS = {
    "bad_request": ProblemKind(400, "This is not a valid HTTP request"),
    "bad_encoding": ProblemKind(400, "The body is not what its Content-Encoding says"),
    "invalid_header": ProblemKind(400, "A request header has a value that cannot be used"),
    "invalid_json": ProblemKind(400, "The body is not valid JSON"),
    "invalid_request": ProblemKind(400, "The request does not say what is needed"),
    "invalid_filter": ProblemKind(400, "The filter means nothing"),
    "invalid_cursor": ProblemKind(400, "The cursor was not given out by this list"),
    "unauthorized": ProblemKind(401, "A valid token is needed"),
    "forbidden": ProblemKind(403, "This is not allowed for you"),
    "forbidden_host": ProblemKind(403, "This Host is not served"),
    "forbidden_origin": ProblemKind(403, "Requests from this Origin are refused"),
    "no_route": ProblemKind(404, "No route takes this callback"),
    "not_found": ProblemKind(404, "There is nothing here"),
    "unknown_callback": ProblemKind(404, "There is no such callback"),
    "unknown_operation": ProblemKind(404, "There is no such operation"),
    "unknown_quota": ProblemKind(404, "There is no such quota"),
    "unknown_platform": ProblemKind(404, "There is no such platform"),
    "method_not_allowed": ProblemKind(405, "This method does not work here"),
    "body_timeout": ProblemKind(408, "The body did not arrive in time"),
    "not_sealed": ProblemKind(409, "The store is not sealed"),
    "conflict": ProblemKind(409, "What was expected no longer holds"),
    "final": ProblemKind(409, "The callback has ended"),
    "in_flight": ProblemKind(409, "The callback may be on its way; nothing was done"),
    "in_history": ProblemKind(409, "It lies in a history file and cannot come back; nothing was done"),
    "count_mismatch": ProblemKind(409, "Another number of callbacks matches; nothing was done"),
    "too_large": ProblemKind(413, "The body is too large"),
    "target_too_long": ProblemKind(414, "The request target is too long"),
    "unsupported_encoding": ProblemKind(415, "This Content-Encoding is not supported"),
    "idempotency_conflict": ProblemKind(422, "This Idempotency-Key was used with another body"),
    "never_fits": ProblemKind(422, "This never fits into the limit"),
    "unfit_payload": ProblemKind(422, "The platform cannot be sent this payload"),
    "invalid_config": ProblemKind(422, "The configuration has problems; nothing was changed"),
    "no_slot": ProblemKind(429, "No slot of the limit came free in time", 1),
    "too_many_tries": ProblemKind(429, "Too many wrong tokens came from this address", 60),
    "too_many_reveals": ProblemKind(429, "You have seen as many payloads as you may", 3600),
    "head_too_large": ProblemKind(431, "The head of the request is too large"),
    "internal": ProblemKind(500, "The relay made a mistake"),
    "not_supported": ProblemKind(501, "This relay does not do that"),
    "version_not_supported": ProblemKind(505, "This version of HTTP is not supported"),
    # A full store needs a person, or time to deliver; a failed commit is often over in a moment.
    "store_full": ProblemKind(503, "The store is full", 30),
    "store_failed": ProblemKind(503, "The store cannot commit now", 1),
    "overloaded": ProblemKind(503, "More arrives than can be taken", 1),
    "stopping": ProblemKind(503, "The relay is stopping", 1),
}


class Refusal(Exception):
    """A request that will be answered with a problem; raise it anywhere below a handler."""

    def __init__(self, code: str, detail: str = "", *, close: bool = False, **extra: Any) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.close = close
        self.extra = extra

    def answer(self, languages: str = "") -> Response:
        """Return the response for it, its title in Chinese where ``languages`` (Accept-Language) asks for that."""
        if wants_chinese(languages):
            title = _chinese_titles()[self.code]
            return problem(self.code, self.detail or title, close=self.close, title=title, **self.extra)
        return problem(self.code, self.detail, close=self.close, **self.extra)


def wants_chinese(languages: str) -> bool:
    """Tell whether the first language of an Accept-Language header is Chinese: ``zh-CN,zh;q=0.9,en;q=0.8``."""
    return languages.lstrip().lower().startswith("zh")


@cache
def _chinese_titles() -> dict[str, str]:
    return dict(json.loads((files(__package__) / "titles.zh-CN.json").read_text(encoding="utf-8")))


def problem(
    code: str, detail: str = "", *, headers: dict[str, str] | None = None, close: bool = False, **extra: Any
) -> Response:
    """Return the problem ``code`` (a key of ``KINDS``) with its detail and extra members such as ``line``.

    ``close`` ends the connection after it, for a request whose end cannot be found.
    """
    kind = KINDS[code]
    members = {
        "type": f"urn:callback-relay:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "code": code,
        "detail": detail or kind.title,
        **extra,
    }
    sent = dict(headers or {})
    if kind.retry_after_s is not None:
        sent.setdefault("Retry-After", str(kind.retry_after_s))
    if kind.status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    return Response(kind.status, encoded(members), content_type=CONTENT_TYPE, headers=sent, close=close)
