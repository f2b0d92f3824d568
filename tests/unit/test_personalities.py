"""Platforms as they answer: recorded bodies, signature vectors, tokens that end, partial failures and repeats."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from relay.standin.personalities.exchange import Personality, PlatformAnswer, PlatformRequest
from relay.standin.personalities.options import Options, parse_options
from relay.standin.personalities.registry import PERSONALITIES, build_personality
from relay.standin.personalities.standard_webhooks import signature_fault
from relay.standin.personalities.taobao_logistics import top_sign

NOW = 1_700_000_000.0
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def asked(
    body: Any = b"",
    *,
    now: float = NOW,
    path: str = "/",
    query: dict[str, str] | None = None,
    **headers: str,
) -> PlatformRequest:
    """Return a request; ``_`` in header names stands for ``-``."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PlatformRequest("POST", path, query or {}, named, raw, raw, now, lambda callbacks: 0.0)


def basic(user: str = "sandbox-app", password: str = "sandbox-secret") -> str:
    """Return the Authorization header of the stand-in's own account."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def document(told: PlatformAnswer) -> Any:
    """Return the body an answer has."""
    return json.loads(told.encoded())


# --- options ---------------------------------------------------------------------------------------------------------


def test_options_are_read_and_mistakes_named() -> None:
    """Words become numbers and times; an unknown word, value or name says what there is."""
    options = parse_options("fail=0.05,token_requests=200,token_ttl=10m,over_at=3,over_wait=200ms,bearer=on,seed=x")
    assert (options.fail, options.token_requests, options.token_ttl_s, options.over_wait_s) == (0.05, 200, 600.0, 0.2)
    assert (options.bearer, options.seed) == (True, "x")
    for text, said in (
        ("fial=0.1", "use fail=, retry="), ("fail=2", "between 0 and 1"), ("token_ttl=5", "has no unit"),
        ("over_at=-1", "whole number"), ("bearer=yes", "on or off"), ("fail", "no option"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            parse_options(text)
    with pytest.raises(ValueError, match="did you mean 'wechat-shipping'"):
        build_personality("wechat")


def test_the_same_seed_fails_the_same_callbacks() -> None:
    """The share is met, and which callbacks fail depends on seed and payload alone."""
    payloads = [b"%d" % number for number in range(4000)]
    first, again = ([raw for raw in payloads if parse_options("fail=0.05,seed=a").fails(raw, None)] for _ in range(2))
    other = [raw for raw in payloads if parse_options("fail=0.05,seed=b").fails(raw, None)]
    assert first == again != other
    assert 140 < len(first) < 260
    assert Options().fails(b"x", {"sandbox_fail": True})


@pytest.mark.parametrize("name", PERSONALITIES)
def test_every_personality_answers_whatever_comes(name: str) -> None:
    """Broken, empty and foreign bodies are refused in the platform's manner, never raised, and nothing is taken."""
    personality = build_personality(f"{name}:bearer=on")
    for body in (b"", b"{", b"[]", b"[1, null]", b"null", b'{"update": [1]}', b"\xff\xfe", b"a=1&a=2"):
        for content_type in ("", "application/json", "application/cloudevents-batch+json"):
            told = personality.decide(asked(body, content_type=content_type, authorization="Basic !"))
            assert not told.taken
            assert told.encoded() is not None
            personality.token(asked(body))


@pytest.mark.parametrize("name", PERSONALITIES)
def test_every_personality_says_what_lets_a_client_in(name: str) -> None:
    """What it prints at its start is what it verifies."""
    account = build_personality(f"{name}:app_id=me,secret=whsec_bWUhbWUhbWUhbWUhbWUhbWUhbWUh,bearer=on").account
    assert "me" in account
    assert "whsec_bWUhbWUhbWUhbWUhbWUhbWUhbWUh" in account


# --- WeChat ----------------------------------------------------------------------------------------------------------


def order(number: str, tracking: str = "YT3750696145732", **more: Any) -> dict[str, Any]:
    """Return a body of upload_shipping_info as recorded by a user."""
    return {
        "order_key": {"order_number_type": 2, "transaction_id": number}, "logistics_type": 1, "delivery_mode": 1,
        "shipping_list": [{"tracking_no": tracking, "express_company": "YTO", "item_desc": "茶*1"}],
        "upload_time": "2023-07-03T19:40:42.637+08:00", "payer": {"openid": "o1"}, **more,
    }  # fmt: skip


def wechat_token(personality: Personality, now: float = NOW) -> str:
    """Fetch a token as the app does."""
    query = {"grant_type": "client_credential", "appid": "sandbox-app", "secret": "sandbox-secret"}
    told = personality.token(asked(query=query, now=now))
    assert document(told)["expires_in"] == 7200
    token: str = document(told)["access_token"]
    return token


def test_wechat_ships_knows_repeats_and_allows_one_change() -> None:
    """0 for a new order, 10060023 for the same again, 0 for one change, 10060003 for a second; split ones go on."""
    personality = build_personality("wechat-shipping")
    query = {"access_token": wechat_token(personality)}
    codes = [
        document(personality.decide(asked(body, query=query)))["errcode"]
        for body in (order("1"), order("1"), order("1", "Z"), order("1", "Y"), {"order_key": {}})
    ]
    assert codes == [0, 10060023, 0, 10060003, 47001]
    parts = [personality.decide(asked(order("2", str(n), is_all_delivered=False), query=query)) for n in range(3)]
    assert [document(told)["errcode"] for told in parts] == [0, 0, 0]
    assert parts[0].taken == parts[0].callbacks != ()


def test_wechat_tokens_end() -> None:
    """40001 for an unknown one, 42001 past its time or uses; the one before a new one lives five minutes longer."""
    personality = build_personality("wechat-shipping:token_requests=2")

    def code(token: str, now: float = NOW) -> int:
        number: int = document(personality.decide(asked(order(str(now)), query={"access_token": token}, now=now)))[
            "errcode"
        ]
        return number

    assert code("no") == 40001
    first = wechat_token(personality)
    assert [code(first), code(first), code(first)] == [0, 10060023, 42001]
    second = wechat_token(personality)
    assert code(second, NOW + 7200) == 42001
    third = wechat_token(personality, NOW + 10)
    assert code(second, NOW + 309) == 0
    assert code(second, NOW + 311) == 42001
    assert code(third, NOW + 311) == 0
    assert document(personality.token(asked(query={"appid": "other"})))["errcode"] == 40013
    assert personality.figures()["tokens"] == 3


def test_wechat_above_its_limit_and_failing_orders() -> None:
    """The recorded 44990 during the episode, then 10060004 for good and 10060001 once."""
    personality = build_personality("wechat-shipping:over_at=2,over_for=1,fail_field=bad")
    query = {"access_token": wechat_token(personality)}
    answers = [personality.decide(asked(order("1", bad=bad), query=query)) for bad in (False, False, True)]
    assert [document(told)["errcode"] for told in answers] == [0, 44990, 10060004]
    assert document(answers[1])["errmsg"] == ("reach max api second frequence limit rid: 66fa8bb4-06a602c9-2af85707")
    assert [told.limited for told in answers] == [False, True, False]
    late = build_personality("wechat-shipping:retry=1")
    query = {"access_token": wechat_token(late)}
    codes = [document(late.decide(asked(order("1"), query=query)))["errcode"] for _ in range(2)]
    assert codes == [10060001, 0]


# --- Taobao ----------------------------------------------------------------------------------------------------------


def signed(
    secret: str = "sandbox-secret", at: float = NOW, method: str = "hmac-sha256", **fields: str
) -> PlatformRequest:
    """Return a signed call: common parameters in the query, the order in the form."""
    stamp = datetime.fromtimestamp(at, timezone(timedelta(hours=8))).strftime("%Y-%m-%d %H:%M:%S")
    common = {
        "method": "taobao.logistics.offline.send", "app_key": "sandbox-app", "session": "sandbox-token", "v": "2.0",
        "timestamp": stamp, "sign_method": method, "format": "json",
    }  # fmt: skip
    given = {"tid": "1", "out_sid": "S1", "company_code": "YTO"} | fields
    session = given.pop("session", None)
    common |= {"session": session} if session else {}
    common["sign"] = top_sign({**common, **given}, secret)
    return asked(urlencode(given).encode(), query=common)


def test_taobao_signatures_are_the_ones_of_the_vectors() -> None:
    """Both published vectors come out; md5, hmac and hmac-sha256 are accepted, a wrong secret is code 25."""
    assert top_sign({"b": "2", "a": "1"}, "secret") == "EF16F26C937CF52AE6F85DF2FD08B24A"
    pairs = hmac.new(b"secret", b"a1b2", hashlib.sha256).hexdigest().upper()
    assert pairs == "3A9F9E53162A24430830CCA87B7FB623401B81EB6616A6EA75B3614AEBDC7F4D"
    personality = build_personality("taobao-logistics")
    for number, method in enumerate(("md5", "hmac", "hmac-sha256")):
        told = personality.decide(signed(method=method, tid=str(number)))
        assert document(told) == {"logistics_offline_send_response": {"shipping": {"is_success": True}}}
    assert document(personality.decide(signed(secret="wrong")))["error_response"]["code"] == 25
    assert document(personality.decide(signed(at=NOW - 601)))["error_response"]["code"] == 31


def test_taobao_session_repeats_and_ban() -> None:
    """27 for a session that ended, B04 for a shipped order, and the ban's text says how long."""
    personality = build_personality("taobao-logistics:token_requests=3,over_at=3,over_for=1,over_wait=2s")
    answers = [document(personality.decide(signed())) for _ in range(4)]
    assert answers[0]["logistics_offline_send_response"]["shipping"] == {"is_success": True}
    errors = [answer["error_response"] for answer in answers[1:]]
    assert errors[0]["sub_code"].endswith(":B04")
    assert errors[1] == {
        "code": 7, "msg": "App Call Limited", "sub_code": "accesscontrol.limited-by-api-access-count",
        "sub_msg": "This ban will last for 2 more seconds",
    }  # fmt: skip
    assert (errors[2]["code"], errors[2]["sub_code"]) == (27, "session-expired")
    form = {
        "grant_type": "refresh_token", "refresh_token": "r", "client_id": "sandbox-app",
        "client_secret": "sandbox-secret",
    }  # fmt: skip
    session = document(personality.token(asked(urlencode(form).encode())))["access_token"]
    assert "logistics_offline_send_response" in document(personality.decide(signed(session=session, tid="2")))
    assert (
        document(personality.token(asked(urlencode(form | {"client_id": "x"}).encode())))["error"] == "invalid_client"
    )


def test_taobao_failing_orders() -> None:
    """isv. for good, isp. once."""
    refused = build_personality("taobao-logistics:fail=1").decide(signed())
    assert document(refused)["error_response"]["sub_code"].startswith("isv.")
    late = build_personality("taobao-logistics:retry=1")
    first, second = (document(late.decide(signed())) for _ in range(2))
    assert first["error_response"]["sub_code"].startswith("isp.")
    assert "logistics_offline_send_response" in second


# --- Standard Webhooks -----------------------------------------------------------------------------------------------


def webhook(
    body: bytes = b'{"n": 1}', name: str = "msg_1", secret: str = WEBHOOK_SECRET, at: int = int(NOW)
) -> PlatformRequest:
    """Return a signed webhook."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{name}.{at}.".encode() + body, "sha256")).decode()
    return asked(body, webhook_id=name, webhook_timestamp=str(at), webhook_signature=f"v1,bm9uZQ== v1,{signature}")


def test_standard_webhooks_verifies_the_published_vector() -> None:
    """The example of the specification is accepted; another body, time or secret is not."""
    vector = {
        "webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook_timestamp": "1614265330",
        "webhook_signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip
    body = b'{"test": 2432232314}'
    assert signature_fault(asked(body, now=1614265330.0, **vector), WEBHOOK_SECRET) == ""
    assert signature_fault(asked(body + b" ", now=1614265330.0, **vector), WEBHOOK_SECRET) == "invalid signature"
    assert "tolerance" in signature_fault(asked(body, now=1614265330.0 + 301, **vector), WEBHOOK_SECRET)
    assert "missing" in signature_fault(asked(body), WEBHOOK_SECRET)


def test_standard_webhooks_knows_repeats_limits_and_tokens() -> None:
    """A repeat is taken once; 429 with Retry-After in the episode; with bearer=on a token is asked for and ends."""
    personality = build_personality("standard-webhooks:over_at=3,over_for=1,over_wait=4s")
    answers = [personality.decide(webhook()) for _ in range(3)]
    assert [(told.status, len(told.taken)) for told in answers] == [(200, 1), (200, 0), (429, 0)]
    assert answers[2].headers["Retry-After"] == "4"
    assert personality.decide(webhook(secret="whsec_" + base64.b64encode(b"x" * 24).decode())).status == 401
    guarded = build_personality("standard-webhooks:bearer=on,token_requests=1")
    assert guarded.decide(webhook()).status == 401
    token = document(guarded.token(asked(b"", authorization=basic())))["access_token"]
    plain = webhook()
    with_token = replace(plain, headers={**plain.headers, "authorization": f"Bearer {token}"})
    assert [guarded.decide(with_token).status for _ in range(2)] == [200, 401]


# --- WooCommerce -----------------------------------------------------------------------------------------------------


def test_woocommerce_answers_entry_by_entry() -> None:
    """200 with an error for the failed entry, whose id is null, in the order sent; what is taken is the rest."""
    personality = build_personality("woocommerce-batch:fail_field=bad")
    updates = [{"id": 1, "status": "completed"}, {"id": 2, "bad": True}, {"id": 3, "status": "completed"}]
    told = personality.decide(asked({"update": updates}, authorization=basic()))
    entries = document(told)["update"]
    assert told.status == 200
    assert [entry["id"] for entry in entries] == [1, None, 3]
    assert entries[1]["error"]["data"] == {"status": 400}
    assert [json.loads(raw)["id"] for raw in told.taken] == [1, 3]


def test_woocommerce_refuses_strangers_and_too_many() -> None:
    """401 by key and by secret, 413 above 100 updates, each with the shop's code."""
    personality = build_personality("woocommerce-batch:over_at=3")
    one = {"update": [{"id": 1}]}
    codes = [
        (told.status, document(told)["code"])
        for told in (
            personality.decide(asked(one)),
            personality.decide(asked(one, authorization=basic(password="x"))),
            personality.decide(asked({"update": [{"id": n} for n in range(101)]}, authorization=basic())),
            personality.decide(asked(b"<html>", authorization=basic())),
        )
    ]
    assert codes == [
        (401, "woocommerce_rest_authentication_error"), (401, "woocommerce_rest_authentication_error"),
        (413, "woocommerce_rest_request_entity_too_large"), (400, "rest_invalid_json"),
    ]  # fmt: skip
    personality.decide(asked(one, authorization=basic()))
    assert personality.decide(asked(one, authorization=basic())).status == 429


# --- Mixpanel --------------------------------------------------------------------------------------------------------


def event(number: int, **properties: Any) -> dict[str, Any]:
    """Return an event."""
    return {"event": "paid", "properties": {"time": 1, "distinct_id": "u", "$insert_id": f"i{number}", **properties}}


def test_mixpanel_imports_the_good_ones_of_a_400() -> None:
    """The recorded form: 400, how many were imported, and each failed record by index and insert id."""
    personality = build_personality("mixpanel-import:fail_field=bad")
    told = personality.decide(asked([event(0), event(1, bad=True), event(2)], authorization=basic()))
    body = document(told)
    assert (told.status, body["code"], body["status"], body["num_records_imported"]) == (400, 400, "Bad Request", 2)
    assert body["error"] == "some data points in the request failed validation"
    (record,) = body["failed_records"]
    assert (record["index"], record["insert_id"], record["field"]) == (1, "i1", "properties.time")
    assert len(told.taken) == 2
    again = personality.decide(asked([event(0), event(3)], authorization=basic()))
    assert document(again) == {"code": 200, "num_records_imported": 2, "status": "OK"}
    assert len(again.taken) == 1


def test_mixpanel_refuses_strangers_too_many_and_events_without_id() -> None:
    """401, 413 above 2000 events, a failed record for a missing $insert_id, 429 in the episode."""
    personality = build_personality("mixpanel-import:over_at=3")
    assert personality.decide(asked([event(0)])).status == 401
    assert personality.decide(asked([event(n) for n in range(2001)], authorization=basic())).status == 413
    no_id = personality.decide(asked([{"event": "x", "properties": {}}], authorization=basic()))
    assert document(no_id)["failed_records"][0]["field"] == "properties.$insert_id"
    assert personality.decide(asked([event(0)], authorization=basic())).headers["Retry-After"] == "1"


# --- CloudEvents -----------------------------------------------------------------------------------------------------


def cloud(*numbers: int, **data: Any) -> PlatformRequest:
    """Return a batch of events."""
    events = [
        {"specversion": "1.0", "id": str(n), "source": "/shop", "type": "paid", "data": {"n": n, **data}}
        for n in numbers
    ]
    return asked(events, content_type="application/cloudevents-batch+json; charset=utf-8")


def test_cloudevents_takes_all_or_nothing() -> None:
    """One refused event refuses the batch; a good batch is taken, its repeats only once; a wrong type is 415."""
    personality = build_personality("cloudevents:fail_field=bad")
    assert personality.decide(asked([{}], content_type="application/json")).status == 415
    refused = personality.decide(cloud(1, 2, bad=True))
    assert (refused.status, len(refused.callbacks), refused.taken) == (422, 2, ())
    good = personality.decide(cloud(1, 2))
    assert (good.status, [json.loads(raw) for raw in good.taken]) == (204, [{"n": 1}, {"n": 2}])
    assert [json.loads(raw) for raw in personality.decide(cloud(2, 3)).taken] == [{"n": 3}]
    broken = asked([{"id": "1"}], content_type="application/cloudevents-batch+json")
    assert personality.decide(broken).status == 400


def test_cloudevents_throttles_and_asks_for_a_token() -> None:
    """429 with Retry-After in the episode; 401 with a challenge where a token is wanted."""
    personality = build_personality("cloudevents:over_at=1,over_wait=2s")
    assert personality.decide(cloud(1)).headers["Retry-After"] == "2"
    guarded = build_personality("cloudevents:bearer=on")
    assert "invalid_token" in guarded.decide(cloud(1)).headers["WWW-Authenticate"]
    assert guarded.token(asked(b"client_id=x")).status == 401
