"""Each preset against the platform it is for: a real daemon and stand-in, failing items, ending tokens, a throttle."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from relay.standin.bodies import digest
from relay.standin.personalities.options import parse_options
from tests.e2e.harness import Bench, bench

COUNT, KEYS = 500, 50
SEED = "fail=0.05,seed=presets"
CLIENT = {"client_id": "sandbox-app", "client_secret": "sandbox-secret"}
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Fields = dict[str, Any]


class Case(NamedTuple):
    """A preset, how it is told apart from its defaults for the stand-in, and what its callbacks look like."""

    preset: str
    payload: Callable[[int, str], Fields]  # of the n-th callback, of an order
    settings: Callable[[str], Fields]  # of the platform, from the stand-in's base URL
    message: str  # the platform's own words about a bad item
    episode: str  # options: when it is above its limit, how its tokens end
    sees: Callable[[Fields], Fields] = lambda fields: fields  # what reaches the platform of a payload
    tokens: int = 0  # it must have fetched so many at least


CASES = [
    Case(
        "wechat-shipping",
        payload=lambda n, order: {
            "order_key": {"order_number_type": 2, "transaction_id": order},
            "delivery_mode": 2, "is_all_delivered": False, "shipping_list": [{"tracking_no": f"YT{n}"}],
        },
        settings=lambda target: {
            "url": f"{target}/wxa/sec/order/upload_shipping_info",
            "auth": CLIENT | {"token_url": f"{target}/cgi-bin/token"},
        },
        message="支付单处于不可发货的状态", episode="over_at=100,over_for=1,token_requests=200", tokens=3,
    ),
    Case(
        "taobao-logistics",
        payload=lambda n, order: {"tid": f"{order}-{n}", "out_sid": f"S{n}", "company_code": "YTO", "parent": order},
        settings=lambda target: {
            "url": f"{target}/router/rest", "key": "parent",
            "sign": {"secret": "sandbox-secret", "params": {"app_key": "sandbox-app"}},
            "auth": CLIENT | {
                "kind": "oauth2", "grant": "refresh_token", "refresh_token": "r", "token_url": f"{target}/token",
                "send": "query", "name": "session",
            },
        },
        message="该订单不允许发货", episode="over_at=100,over_for=1,over_wait=1s,token_requests=200", tokens=3,
        sees=lambda fields: {name: fields[name] for name in ("tid", "out_sid", "company_code")},
    ),
    Case(
        "standard-webhooks",
        payload=lambda n, order: {"order_id": order, "n": n},
        settings=lambda target: {
            "url": f"{target}/hook", "key": "order_id", "sign": {"secret": WEBHOOK_SECRET},
            "auth": CLIENT | {"kind": "oauth2", "token_url": f"{target}/oauth/token"},
        },
        message="this order is not known here", episode="over_at=100,over_for=1,bearer=on,token_requests=200", tokens=3,
    ),
    Case(
        "woocommerce-batch",
        payload=lambda n, order: {"id": int(order), "status": "completed", "note": f"{n}"},
        settings=lambda target: {
            "url": f"{target}/wp-json/wc/v3/orders/batch",
            "auth": {"user": "sandbox-app", "password": "sandbox-secret"},
        },
        message="Invalid ID.", episode="over_at=3,over_for=1",
    ),
    Case(
        "mixpanel-import",
        payload=lambda n, order: {
            "event": "shipped", "properties": {"time": 1, "distinct_id": order, "$insert_id": f"i{n}"},
        },
        settings=lambda target: {
            "url": f"{target}/import?strict=1&project_id=1", "key": "properties.distinct_id",
            "auth": {"user": "sandbox-app", "password": "sandbox-secret"},
        },
        message="must be specified as seconds since epoch", episode="over_at=3,over_for=1",
    ),
    Case(
        "cloudevents",
        payload=lambda n, order: {"order_id": order, "n": n},
        settings=lambda target: {
            "url": f"{target}/events", "key": "order_id",
            "auth": CLIENT | {"kind": "oauth2", "token_url": f"{target}/oauth/token"},
        },
        message="this order is not known here", episode="over_at=3,over_for=1,bearer=on,token_requests=60", tokens=3,
    ),
]  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", CASES, ids=[case.preset for case in CASES])
async def test_500_callbacks_through_a_preset(tmp_path: Path, case: Case) -> None:
    """Good items are taken once and in order, bad ones are dead with the platform's words, throttle and tokens pass."""
    options = f"{SEED},{case.episode}"
    rows = [case.payload(n, f"{n % KEYS + 1:04}") for n in range(COUNT)]
    seen = [digest(_json(case.sees(row))) for row in rows]
    bad = {
        name for name, row in zip(seen, rows, strict=True) if parse_options(options).fails(_json(case.sees(row)), None)
    }
    assert COUNT * 0.02 < len(bad) < COUNT * 0.09
    assert len(set(seen)) == COUNT

    def platform(target: str) -> Fields:
        return {"preset": case.preset, **case.settings(target)}

    async with bench(tmp_path, platform=platform, sandbox=["--personality", f"{case.preset}:{options}"]) as run:
        await run.post([(None, _json(row)) for row in rows])
        await run.drained(timeout_s=80)
        figures = await run.stats()
        remembered = figures["personality"]
        assert (remembered["over"], remembered.get("duplicate", 0), remembered.get("bad_signature", 0)) == (1, 0, 0)
        assert remembered["tokens"] >= case.tokens
        assert (remembered.get("bad_token", 0) >= case.tokens - 1) if case.tokens else not remembered["tokens"]
        await _dead_with_the_platforms_words(run, case, bad, seen)
        evidence = await run.evidence(rates=[])
    states = {stored["id"]: stored["state"] for stored in evidence.stored}
    for posted, name in zip(evidence.posted, seen, strict=True):
        assert states[posted.id] == ("dead" if name in bad else "delivered"), posted
    taken = [
        name for arrival in evidence.arrivals if arrival["applied"] for name in arrival.get("taken", arrival["items"])
    ]
    assert sorted(taken) == sorted(set(seen) - bad), "every good callback once, no bad one"
    _assert_order(seen, [name for arrival in evidence.arrivals for name in arrival["items"]], "first arrivals")
    _assert_order(seen, taken, "what was taken")


async def _dead_with_the_platforms_words(run: Bench, case: Case, bad: set[str], seen: list[str]) -> None:
    """Check some of the dead: what the platform said of each stands with it."""
    dead = [posted.id for posted, name in zip(run.posted, seen, strict=True) if name in bad]
    for callback_id in dead[:3]:
        async with run.http.get(f"{run.admin}/v1/callbacks/{callback_id}") as response:
            shown = await response.json(content_type=None)
        assert shown["state"] == "dead"
        assert case.message in json.dumps(shown, ensure_ascii=False), shown


def _assert_order(seen: list[str], arrived: list[str], what: str) -> None:
    place = {name: n for n, name in enumerate(seen)}
    per_order: dict[int, list[int]] = defaultdict(list)
    for name in dict.fromkeys(arrived):
        per_order[place[name] % KEYS].append(place[name])
    assert all(places == sorted(places) for places in per_order.values()), f"{what} are out of order"


def _json(fields: Fields) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
