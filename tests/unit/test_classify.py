"""Answers and failures to verdicts: the table of SPEC 6, the rules before it, and the waits."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from relay.core.model import ItemVerdict, Outcome, Verdict
from relay.wire.answers.answer import Answer, Failure, FailureKind, Headers
from relay.wire.answers.classify import classify, classify_read_back, plain_first
from tests.compiled import compiled_rule

WALL = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def answer(status: int, body: bytes | Mapping[str, Any] = b"", *, complete: bool = True, **headers: str) -> Answer:
    """Return an answer; header names are given with underscores, a mapping is the JSON body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, Headers((name.replace("_", "-"), value) for name, value in headers.items()), raw, complete)


def verdict(
    result: Answer | Failure, *rules: Mapping[str, Any], compressed: bool = True, items: int = 2, cap_s: float = 3600.0
) -> Verdict:
    """Classify ``result`` for a compressed batch of two unless told otherwise."""
    compiled = [compiled_rule(rule) for rule in rules]
    return classify(result, rules=compiled, compressed=compressed, items=items, wall=WALL, cap_s=cap_s)


@pytest.mark.parametrize(
    ("status", "outcome", "ambiguous"),
    [
        *((status, Outcome.OK, False) for status in (200, 201, 202, 204, 207, 299)),
        *((status, Outcome.REJECT, False) for status in (300, 301, 302, 304, 307, 308)),
        *((status, Outcome.REJECT, False) for status in (400, 402, 404, 405, 409, 410, 418, 422, 451, 499)),
        *((status, Outcome.AUTH, False) for status in (401, 403, 407)),
        (408, Outcome.THROTTLED, True),
        (429, Outcome.THROTTLED, False),
        (503, Outcome.THROTTLED, True),
        (413, Outcome.SPLIT, False),
        (415, Outcome.PLAIN, False),
        *((status, Outcome.RETRY, True) for status in (500, 501, 502, 504, 507, 520, 599, 600, 999)),
    ],
)
def test_status_alone(status: int, outcome: Outcome, ambiguous: bool) -> None:
    """What each status means where no rule says otherwise, and whether it may have been applied."""
    found = verdict(answer(status))
    assert (found.outcome, found.ambiguous) == (outcome, ambiguous)
    assert found.reason.startswith(str(status))


def test_repeated_fields_are_joined() -> None:
    """In their order, whatever the case of their names."""
    headers = Headers([("X-A", "1"), ("B", "2"), ("x-a", "3"), ("X-A", "4")])
    assert dict(headers) == {"x-a": "1, 3, 4", "b": "2"}


@pytest.mark.parametrize("status", [400, 406, 415, 422, 500, 501])
@pytest.mark.parametrize("rule", [None, {"status": "4xx", "as": "reject"}, {"status": "5xx", "as": "retry"}])
def test_what_may_be_about_compression_goes_plain_first(status: int, rule: Mapping[str, Any] | None) -> None:
    """By rule or not, before it is held against the callbacks; whether it was applied stays open where it was."""
    judged = verdict(answer(status), *([rule] if rule else []))
    found = plain_first(judged, answer(status))
    assert (found.outcome, found.ambiguous, found.wait_s) == (Outcome.PLAIN, status >= 500, None)
    assert found.reason.startswith(str(status))


def test_what_is_not_about_compression_stays() -> None:
    """Other statuses, a rule that says throttled or ok, a failure, and an answer about single items: it was read."""
    for status in (200, 401, 403, 404, 409, 413, 429, 502, 503):
        judged = verdict(answer(status))
        assert plain_first(judged, answer(status)) == judged
    for word in ("throttled", "ok", "auth"):
        judged = verdict(answer(400), {"status": 400, "as": word})
        assert plain_first(judged, answer(400)) == judged
    failure = Failure("timeout", connected=True)
    assert plain_first(verdict(failure), failure).outcome is Outcome.RETRY
    named = replace(verdict(answer(400)), items=[ItemVerdict(Outcome.REJECT, "bad")] * 2)
    assert plain_first(named, answer(400)) == named


def test_a_proxy_is_named_and_not_ruled() -> None:
    """407 of the configured proxy is no answer of the platform: no rule is asked, the reason says whose it is."""
    refused = replace(answer(407), proxy="proxy.example:3128")
    rules = ({"exists": True, "path": "x", "as": "ok"}, {"status": "4xx", "as": "reject"})
    compiled = [compiled_rule(rule) for rule in rules]
    for found in (verdict(refused, *rules), classify_read_back(refused, rules=compiled, wall=WALL)):
        assert found.outcome is Outcome.AUTH
        assert found.reason == "407 Proxy Authentication Required from the proxy proxy.example:3128"
    assert verdict(answer(407), *rules).outcome is Outcome.REJECT  # nobody configured one: whose it is, is not known


@pytest.mark.parametrize(
    ("kind", "connected", "outcome", "reason"),
    [
        ("refused", False, Outcome.DOWN, "connection refused"),
        ("unreachable", False, Outcome.DOWN, "unreachable"),
        ("dns", False, Outcome.DOWN, "name not resolved"),
        ("tls", False, Outcome.DOWN, "TLS failure"),
        ("timeout", True, Outcome.RETRY, "timeout after 10 s"),
        ("reset", True, Outcome.RETRY, "connection reset"),
        ("truncated", True, Outcome.RETRY, "answer truncated"),
        ("not_http", True, Outcome.RETRY, "answer is not HTTP"),
    ],
)
def test_failures(kind: FailureKind, connected: bool, outcome: Outcome, reason: str) -> None:
    """Never connected is the platform being down; after a connection it may have been applied. Rules have no say."""
    detail = "timeout after 10 s" if kind == "timeout" else "10.0.0.1:443: some words"
    found = verdict(Failure(kind, connected, detail), {"status": "2xx", "as": "ok"})
    assert found == Verdict(outcome, ambiguous=connected, reason=reason, excerpt=detail)


@pytest.mark.parametrize("retry_after", ["30", "Fri, 15 Jan 2027 08:00:30 GMT", "0", "-1"])
def test_503_that_says_when_was_not_applied(retry_after: str) -> None:
    """A 503 with Retry-After is a refusal in so many words."""
    found = verdict(answer(503, Retry_After=retry_after))
    assert (found.outcome, found.ambiguous) == (Outcome.THROTTLED, False)
    assert found.wait_s in (30.0, 0.0)


def test_503_with_nonsense_may_have_been_applied() -> None:
    """A Retry-After that says nothing makes no 503 sure."""
    found = verdict(answer(503, Retry_After="soon"))
    assert (found.ambiguous, found.wait_s) == (True, None)


def test_what_cannot_be_split_or_made_plain_is_rejected() -> None:
    """413 of one item and 415 of a plain body are final, by rule too."""
    assert verdict(answer(413), items=1).outcome is Outcome.REJECT
    assert verdict(answer(415), compressed=False).outcome is Outcome.REJECT
    rule = {"path": "code", "in": ["TOO_BIG"], "as": "split"}
    assert verdict(answer(400, {"code": "TOO_BIG"}), rule, items=1).outcome is Outcome.REJECT
    assert verdict(answer(400, {"code": "TOO_BIG"}), rule, items=2).outcome is Outcome.SPLIT


WECHAT = [
    {"path": "errcode", "in": [0], "as": "ok"},
    {"path": "errcode", "in": [10060023, 268440065], "as": "duplicate"},
    {"path": "errcode", "in": [45011], "as": "throttled", "wait": "60s"},
    {"path": "errcode", "in": [40001], "as": "auth"},
    {"path": "errcode", "in": [-1], "as": "retry", "wait": "60s"},
    {"path": "errcode", "exists": True, "as": "reject"},
]


@pytest.mark.parametrize(
    ("body", "outcome", "reason", "wait_s"),
    [
        ({"errcode": 0}, Outcome.OK, "errcode=0", None),
        ({"errcode": "0"}, Outcome.OK, "errcode=0", None),
        ({"errcode": 0.0}, Outcome.OK, "errcode=0", None),
        ({"errcode": 268440065}, Outcome.DUPLICATE, "errcode=268440065", None),
        ({"errcode": 45011}, Outcome.THROTTLED, "errcode=45011", 60.0),
        ({"errcode": 40001}, Outcome.AUTH, "errcode=40001", None),
        ({"errcode": -1}, Outcome.RETRY, "errcode=-1", 60.0),
        ({"errcode": 44444}, Outcome.REJECT, "errcode=44444", None),
        ({"errcode": False}, Outcome.REJECT, "errcode=false", None),
        ({"errcode": [0]}, Outcome.REJECT, "errcode present", None),
        ({"errcode": None}, Outcome.CONFIRM, "200 OK, no rule matched", None),
        ({"gw_err_resp": {"err_code": 4201}}, Outcome.CONFIRM, "200 OK, no rule matched", None),
        (b"<html>maintenance</html>", Outcome.CONFIRM, "200 OK, no rule matched", None),
        (b"", Outcome.CONFIRM, "200 OK, no rule matched", None),
        (b"[" * 100_000, Outcome.CONFIRM, "200 OK, no rule matched", None),
        (b'{"errcode":0,"x":"\xff"}', Outcome.OK, "errcode=0", None),  # GBK without a label: as browsers and Go read it
    ],
)
def test_rules_on_a_200(body: bytes | Mapping[str, Any], outcome: Outcome, reason: str, wait_s: float | None) -> None:
    """Rules go first; an unknown 2xx body is never success; a complete 2xx answer is never ambiguous."""
    found = verdict(answer(200, body), *WECHAT)
    assert (found.outcome, found.reason, found.wait_s, found.ambiguous) == (outcome, reason, wait_s, False)


def test_rules_leave_other_statuses_to_the_built_in_ones() -> None:
    """Where no rule matches, only a 2xx becomes doubtful."""
    assert verdict(answer(500), *WECHAT).outcome is Outcome.RETRY
    assert verdict(answer(404), *WECHAT).outcome is Outcome.REJECT


def test_a_cut_answer_proves_nothing() -> None:
    """A body of more than 64 KiB is not JSON we have seen; without rules its status still counts."""
    cut = answer(200, {"errcode": 0}, complete=False)
    assert verdict(cut, *WECHAT).outcome is Outcome.CONFIRM
    assert verdict(cut).outcome is Outcome.OK


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
@pytest.mark.parametrize("named", ["throttled", "retry", "reject", "auth"])
def test_ambiguity_follows_the_wire(status: int, named: str) -> None:
    """Whatever a rule calls a 408 or 5xx, it may have been applied."""
    found = verdict(answer(status), {"status": status, "as": named})
    assert (found.outcome, found.ambiguous) == (Outcome(named), True)


@pytest.mark.parametrize(("status", "named"), [(200, "throttled"), (400, "throttled"), (404, "retry"), (429, "retry")])
def test_a_plain_refusal_by_rule_was_not_applied(status: int, named: str) -> None:
    """A 2xx or 4xx that a rule calls throttled, and a 429 whatever it is called, certainly was not applied."""
    assert not verdict(answer(status), {"status": status, "as": named}).ambiguous


def test_accepted_by_rule_is_not_in_doubt() -> None:
    """A rule that calls a 500 a success settles it."""
    rule = {"status": 500, "path": "code", "in": ["ALREADY"], "as": "duplicate"}
    found = verdict(answer(500, {"code": "ALREADY"}), rule)
    assert (found.outcome, found.ambiguous) == (Outcome.DUPLICATE, False)


GBK_BODY = '{"a":"\u8ba2"}'.encode("gbk")
# The second byte of this character is a backslash, and gb2312 alone, without GBK, does not have it.
GBK_HARD = '{"a":"\u8aa0"}'.encode("gbk")
KOREAN = '{"a":"\ub625"}'.encode("cp949")  # not in EUC-KR proper


@pytest.mark.parametrize(
    ("rule", "result", "reason"),
    [
        ({"status": 200}, answer(200), "200 OK"),
        ({"status": "2xx"}, answer(204), "204 No Content"),
        ({"status": [404, "5xx"]}, answer(502), "502 Bad Gateway"),
        ({"status": 200}, answer(201), None),
        ({"status": 777 // 3}, answer(259), "259"),
        ({"header": "X-Code", "in": [7]}, answer(200, x_code="7"), "X-Code=7"),
        ({"header": "x-code", "regex": "^7"}, answer(200, x_code="77"), "x-code=77"),
        ({"header": "x-code", "exists": True}, answer(200), None),
        ({"header": "x-code", "exists": False}, answer(200), "x-code absent"),
        ({"path": "a.b", "regex": ":B04$"}, answer(200, {"a": {"b": "isv:B04"}}), "a.b=isv:B04"),
        ({"path": "a.b", "regex": "4"}, answer(200, {"a": {"b": 404}}), "a.b=404"),
        ({"path": "a.b", "regex": "."}, answer(200, {"a": {"b": None}}), None),
        ({"path": "a.b", "regex": "."}, answer(200, {"a": {"b": [1]}}), None),
        ({"path": "a", "in": [True]}, answer(200, {"a": True}), "a=true"),
        ({"path": "a", "in": [1]}, answer(200, {"a": True}), None),
        ({"path": "a", "exists": False}, answer(200, {"b": 1}), "a absent"),
        ({"path": "a", "exists": False}, answer(200, b"no json"), "a absent"),
        ({"path": "length(a)", "in": [2]}, answer(200, {"a": 5}), None),
        ({"status": 200, "path": "a", "in": [1]}, answer(201, {"a": 1}), None),
        ({"in": ["success"]}, answer(200, b" success\n"), "body=success"),
        ({"regex": "(?i)maintenance"}, answer(200, b"<h1>Maintenance</h1>"), "body~(?i)maintenance"),
        (
            {"path": "a", "in": ["\u8ba2"]},
            answer(200, GBK_BODY, content_type="text/json;charset=GBK"),
            "a=\u8ba2",
        ),
        *(
            ({"path": "a", "in": ["\u8aa0"]}, answer(200, GBK_HARD, content_type=f"text/json;{label}"), "a=\u8aa0")
            for label in ("charset=gb2312", 'charset="GBK"', "CharSet = x-gbk", "charset=cp936", "charset=GB18030")
        ),
        *(
            (
                {"path": "a", "in": ["\u8868"]},
                answer(200, text.encode(codec), content_type=f"a/b; charset={label}"),
                told,
            )
            for text, codec, label, told in (
                ('{"a":"\u8868"}', "cp932", "shift_jis", "a=\u8868"),
                ('{"a":"\u8868"}', "cp932", "windows-31j", "a=\u8868"),
                ('{"a":"\u8868"}', "big5", "Big5", "a=\u8868"),
                ('{"a":"\u8868"}', "utf-16-le", "utf-16", "a=\u8868"),
                ('{"a":"\u8868"}', "utf-16", "gbk", "a=\u8868"),
                ('{"a":"\u8868"}', "utf-8", "utf8", "a=\u8868"),
                ('{"a":"\u8868"}', "utf-8", "x, a/b; charset=utf-8", "a=\u8868"),
                ('\ufeff{"a":"\u8868"}', "utf-8", "gb2312", "a=\u8868"),
            )
        ),
        ({"path": "a", "in": ["\ub625"]}, answer(200, KOREAN, content_type="a/b; charset=ks_c_5601-1987"), "a=\ub625"),
        ({"path": "a", "in": ["\u20ac"]}, answer(200, b'{"a":"\x80"}', content_type="a/b; charset=latin1"), "a=\u20ac"),
        ({"path": "a", "in": [1]}, answer(200, b'{"a":1}', content_type="text/json; charset=rot13"), "a=1"),
        ({"path": "a", "in": [1]}, answer(200, b'{"a":1}', content_type="a/b; charset=utf-16"), "a=1"),
        ({"path": "a", "in": [1]}, answer(200, b'{"a":1,"m":"\xb6\xa9\xb5\xa5"}'), "a=1"),
        ({"path": "a", "in": [1]}, answer(200, b'{"a":1,"m":"abc \\ud83d"}'), "a=1"),
        ({"path": "a", "in": [1]}, answer(200, b'\xef\xbb\xbf{"a":1}'), "a=1"),
    ],
)
def test_conditions(rule: Mapping[str, Any], result: Answer, reason: str | None) -> None:
    """Each condition alone and together, with the reason it gives."""
    found = verdict(result, {**rule, "as": "duplicate"})
    assert found.outcome is (Outcome.CONFIRM if reason is None else Outcome.DUPLICATE)
    if reason is not None:
        assert found.reason == reason


def test_first_matching_rule_wins() -> None:
    """Rules are ordered."""
    rules = [{"status": 200, "as": "retry"}, {"status": 200, "as": "ok"}]
    assert verdict(answer(200), *rules).outcome is Outcome.RETRY


def test_each_form_of_a_rule_means_what_the_file_says() -> None:
    """Classes of statuses, values, patterns, and each kind of wait with its unit, cap and zone."""
    rules = [
        {"status": ["4xx", 503], "path": "code", "in": ["BUSY", 7], "as": "throttled", "wait": "2500ms"},
        {"header": "X-Busy", "regex": "^y", "as": "retry", "wait": {"header": "X-Wait", "unit": "ms", "cap": "2s"}},
        {"path": "ban", "exists": True, "as": "throttled", "wait": {"align": "day", "tz": "+08:00"}},
    ]
    for result, outcome, wait_s in (
        (answer(503, {"code": "7"}), Outcome.THROTTLED, 2.5),
        (answer(200, x_busy="yes", x_wait="9999"), Outcome.RETRY, 2.0),
        (answer(200, {"ban": 1}), Outcome.THROTTLED, 8 * 3600.0),
    ):
        found = verdict(result, *rules)
        assert (found.outcome, found.wait_s) == (outcome, wait_s)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"as": "ok"}, "no condition"),
        ({"status": 200}, "Field required"),
        ({"status": 200, "as": "okay"}, "okay"),
        ({"status": 200, "as": "plain"}, "plain"),
        ({"status": 99, "as": "ok"}, "99"),
        ({"status": True, "as": "ok"}, "true is not a status"),
        ({"status": "6xx", "as": "ok"}, "6xx"),
        ({"status": [], "as": "ok"}, "empty"),
        ({"path": "a", "as": "ok"}, "in, exists, regex"),
        ({"path": "a[", "exists": True, "as": "ok"}, "JMESPath"),
        ({"path": "a", "regex": "(", "as": "ok"}, "not a regular expression"),
        ({"path": "a", "in": [{}], "as": "ok"}, "plain values"),
        ({"path": "a", "in": [0], "exists": True, "as": "ok"}, "one of"),
        ({"path": "a", "header": "b", "in": [0], "as": "ok"}, "a header and at a path"),
        ({"exists": True, "as": "ok"}, "path or header"),
        ({"path": "a", "exists": "yes", "as": "ok"}, "valid boolean"),
        ({"status": 200, "as": "ok", "when": 1}, "when"),
        ({"status": 200, "as": "ok", "scope": "shop"}, "'group' or 'platform'"),
        ({"status": 429, "as": "throttled", "wait": "60"}, "has no unit"),
        ({"status": 429, "as": "throttled", "wait": {"cap": "1h"}}, "needs one of"),
        ({"status": 429, "as": "throttled", "wait": {"header": "A", "path": "b"}}, "needs one of"),
        ({"status": 429, "as": "throttled", "wait": {"header": "A", "unit": "min"}}, "'epoch_s'"),
        ({"status": 429, "as": "throttled", "wait": {"align": "week"}}, "'minute'"),
        ({"status": 429, "as": "throttled", "wait": {"align": "day", "tz": "Shanghai"}}, "Shanghai"),
        ({"status": 429, "as": "throttled", "wait": {"header": "A", "mins": 1}}, "mins"),
        ("throttled", "dictionary"),
    ],
)
def test_bad_rules_say_what_is_wrong(rule: Any, words: str) -> None:
    """Each mistake in a rule is named."""
    with pytest.raises(ValueError, match=words):
        compiled_rule(rule)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"Retry_After": "30"}, 30.0),
        ({"Retry_After": " 1.5 "}, 1.5),
        ({"Retry_After": "Fri, 15 Jan 2027 08:02:00 GMT"}, 120.0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry_After": "-5"}, 0.0),
        ({"Retry_After": "86400"}, 3600.0),
        ({"Retry_After": "999999999999999999"}, 3600.0),
        ({"Retry_After": str(int(WALL + 50))}, 50.0),
        ({"Retry_After": str(int(WALL + 50) * 1000)}, 50.0),
        ({"Retry_After": "1400000000"}, 0.0),  # a clock that stands years behind, not a wait of 44 years
        ({"Retry_After": "1400000000000"}, 0.0),
        ({"Retry_After": "nan"}, None),
        ({"Retry_After": "1e9"}, None),
        ({"Retry_After": "9" * 500}, None),
        ({"Retry_After": "\u0663\u0660"}, None),
        ({"Retry_After": "2027-01-15T08:00:10Z"}, 10.0),
        # the platform's clock is a day ahead: its own Date tells
        ({"Retry_After": "Sat, 16 Jan 2027 08:00:20 GMT", "Date": "Sat, 16 Jan 2027 08:00:00 GMT"}, 20.0),
        ({"Retry_After": "7", "X_RateLimit_Reset": "60"}, 7.0),
        ({"RateLimit": '"default";r=0;t=20'}, 20.0),
        ({"RateLimit": '"burst";r=0;t=5, "daily";r=0;t=600'}, 600.0),
        ({"RateLimit": '"burst";r=0;t=5, "daily";r=900;t=86400'}, 5.0),
        ({"RateLimit": '"burst";r=3;t=5, "daily";r=900;t=86400'}, 5.0),
        ({"RateLimit": "limit=100, remaining=0, reset=12"}, 12.0),
        ({"RateLimit": ";;==,,;t=x"}, None),
        ({"RateLimit_Reset": "9"}, 9.0),
        ({"X_RateLimit_Reset": str(int(WALL + 90))}, 90.0),
        ({"X_RateLimit_Reset": "45"}, 45.0),
        ({"X_Rate_Limit_Reset": str(int(WALL - 90))}, 0.0),
        ({"X_Rate_Limit_Time_Reset_Ms": "2500"}, 2.5),
        ({"X_Next_Replenishment_Time": str(int(WALL + 5) * 1000)}, 5.0),
        ({"X_RateLimit_Reset_After": "0.25"}, 0.25),
        ({"RateLimit_Policy": '"burst";q=10;w=1, "daily";q=1000;w=86400'}, 1.0),
    ],
)
def test_hints_of_a_throttle(headers: Mapping[str, str], wait_s: float | None) -> None:
    """How long the usual headers ask for, bounded to 0..1 h; nonsense asks for nothing."""
    assert verdict(answer(429, **headers)).wait_s == wait_s


def test_only_a_throttle_reads_reset_headers() -> None:
    """Reset headers stand on every answer of some platforms; a 500 waits for Retry-After only, a 200 for nothing."""
    headers = {"X_RateLimit_Reset": "45", "Retry_After": "10"}
    assert verdict(answer(500, X_RateLimit_Reset="45")).wait_s is None
    assert verdict(answer(500, **headers)).wait_s == 10.0
    assert verdict(answer(200, **headers)).wait_s is None
    assert verdict(answer(404, **headers)).wait_s is None


@pytest.mark.parametrize(
    ("wait", "result", "wait_s"),
    [
        ("90s", answer(200), 90.0),
        ("2h", answer(200), 7200.0),
        ("500ms", answer(200), 0.5),
        ({"header": "X-Wait", "unit": "s"}, answer(200, x_wait="12"), 12.0),
        ({"header": "X-Wait", "unit": "ms"}, answer(200, x_wait="1200"), 1.2),
        ({"header": "X-Wait", "unit": "epoch_s"}, answer(200, x_wait=str(int(WALL + 7))), 7.0),
        ({"header": "X-Wait", "unit": "epoch_ms"}, answer(200, x_wait=str(int(WALL + 7) * 1000)), 7.0),
        ({"header": "X-Wait", "unit": "date"}, answer(200, x_wait="Fri, 15 Jan 2027 08:00:09 GMT"), 9.0),
        ({"header": "X-Wait", "unit": "date"}, answer(200, x_wait="9"), None),
        ({"header": "X-Wait"}, answer(200, x_wait="31062"), 3600.0),
        ({"header": "X-Wait", "cap": "1d"}, answer(200, x_wait="31062"), 31062.0),
        ({"header": "X-Wait", "cap": "10s"}, answer(200, x_wait="31062"), 10.0),
        ({"header": "X-Wait"}, answer(200, retry_after="4"), 4.0),
        ({"path": "e.m", "regex": r"for (\d+)", "unit": "s"}, answer(200, {"e": {"m": "ban for 5 more seconds"}}), 5.0),
        ({"path": "e.m", "regex": r"\d+", "unit": "s"}, answer(200, {"e": {"m": "ban for 5 more"}}), 5.0),
        ({"path": "e.m", "regex": r"for (\d+)", "unit": "s"}, answer(200, {"e": {"m": "banned"}}), None),
        ({"path": "e.m", "regex": r"for( \d+)?", "unit": "s"}, answer(200, {"e": {"m": "for ever"}}), None),
        ({"path": "e", "unit": "s"}, answer(200, {"e": 8}), 8.0),
        ({"path": "e", "unit": "s"}, answer(200, {"e": 1.5}), 1.5),
        ({"path": "e", "unit": "s"}, answer(200, {"e": True}), None),
        ({"path": "e", "unit": "s"}, answer(200, b'{"e":1e999}'), None),
        ({"path": "length(e)", "unit": "s"}, answer(200, {"e": 8}), None),
        ({"align": "day"}, answer(200), 16 * 3600.0),
        ({"align": "day", "tz": "+08:00"}, answer(200), 8 * 3600.0),
        ({"align": "day", "tz": "-08:30"}, answer(200), 1800.0),
    ],
)
def test_waits_of_rules(wait: Any, result: Answer, wait_s: float | None) -> None:
    """Fixed, found in a header or the body, or aligned to the platform's clock; else the usual headers."""
    assert verdict(result, {"status": 200, "as": "throttled", "wait": wait}).wait_s == wait_s


def test_scope_of_a_throttle() -> None:
    """A rule may say that its throttle stops the whole platform."""
    assert verdict(answer(429), {"status": 429, "as": "throttled", "scope": "platform"}).scope == "platform"
    assert verdict(answer(429)).scope == "group"


def test_excerpt_is_short_and_printable() -> None:
    """People see the start of the body on one line; control characters and broken bytes cannot play with a terminal."""
    assert verdict(answer(500, b"a\r\n\x1b[31mb\x00 \xffc")).excerpt == "a [31mb \ufffdc"
    assert verdict(answer(500, b"x" * 60_000)).excerpt == "x" * 500
    assert verdict(answer(500, "\u8ba2".encode() * 30_000)).excerpt == "\u8ba2" * 500
    gbk = answer(500, "\u8ba2\u5355".encode("gbk"), content_type="text/plain; charset=gb2312")
    assert verdict(gbk).excerpt == "\u8ba2\u5355"


def test_a_redirect_says_where_it_leads() -> None:
    """The usual cause is another scheme or a login; the reason keeps its fixed words."""
    found = verdict(answer(302, b"<html>moved", location="https://shop.example/login"))
    assert (found.outcome, found.reason) == (Outcome.REJECT, "302 Found")
    assert found.excerpt == "to https://shop.example/login <html>moved"
    assert verdict(answer(301, b"", location="/x")).excerpt == "to /x"
    assert verdict(answer(201, b"made", location="/x")).excerpt == "made"


def test_reason_holds_nothing_of_the_body() -> None:
    """A reason carries the code that a rule met; other texts of the platform stay in the excerpt."""
    secret = {"errcode": 12345, "errmsg": "order 4711 of Wang"}
    for rules in ((), WECHAT, ({"path": "errmsg", "regex": "order", "as": "reject"},)):
        for status in (200, 400, 500):
            found = verdict(answer(status, secret), *rules)
            assert "4711" not in found.reason
            assert "Wang" not in found.reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (10060004, "code=10060004"),
        ("isv.invalid-parameter", "code=isv.invalid-parameter"),
        ("SIGN_ERROR", "code=SIGN_ERROR"),
        (-1, "code=-1"),
        (True, "code=true"),
        ("13812345678", "code present"),  # a telephone number
        (202611220001234567, "code present"),  # an order's
        ("A202611220001", "code present"),
        ("order 4711 of Wang", "code present"),
        ("\u8ba2\u5355", "code present"),
        ("a\nb", "code present"),
        ({"n": 1}, "code present"),
        ("x" * 49, "code present"),
    ],
)
def test_a_reason_carries_the_code_it_met(value: Any, reason: str) -> None:
    """``errcode=10060004`` says more than ``errcode present``; what may echo a callback is not carried."""
    found = verdict(answer(200, {"code": value}), {"path": "code", "exists": True, "as": "reject"})
    assert (found.reason, found.code) == (reason, reason.partition("=")[2] or None)


def test_the_code_is_kept_apart() -> None:
    """Of ``in`` the value that was met is the code; a rule on the status alone met none."""
    rule = {"path": "errcode", "in": [0, 10060004], "as": "reject"}
    assert verdict(answer(200, {"errcode": "10060004"}), rule).code == "10060004"
    assert verdict(answer(400, {}), {"status": 400, "as": "reject"}).code is None
