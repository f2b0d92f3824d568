"""Settings: what the code reads from a file, defaults, and every kind of mistake with its place and its hint."""

import json
import re
from datetime import time, timedelta, timezone
from pathlib import Path

import pytest
from config_files import MINIMAL, codes, loaded, platform, problems
from pydantic import ValidationError
from relay.config.load import load, loads
from relay.config.problems import CODES, ConfigInvalid
from relay.config.report.json_schema import json_schema, json_schema_text
from relay.config.schema.platform import BreakerSection
from relay.core.model import Outcome, PlatformRules, Quota, Rate
from relay.daemon.intake import directory
from relay.delivery.terms import compile_all, compile_terms
from relay.limits.known import LearnTerms, Mode
from relay.policy.gate.breaker import BreakerTerms
from relay.policy.hours import SendingHours
from relay.policy.objective import Objective
from relay.policy.settle.attempted import Budget
from relay.wire.payload.target import TemplateFields

ROOT = Path(__file__).parents[2]


def test_built_in_defaults(tmp_path: Path) -> None:
    """A file with one URL gives every value in the units the code uses: seconds and bytes."""
    config = loaded(tmp_path, MINIMAL)
    a = config.platforms["a"]
    assert (config.ingest.listen, config.admin.listen) == (("127.0.0.1:8787",), ("127.0.0.1:8788",))
    assert (config.ingest.max_body, config.ingest.max_bulk, config.store.max_size) == (2**20, 2**25, 2**31)
    assert (config.store.keep.delivered, config.store.keep.dead) == (7 * 86400.0, 90 * 86400.0)
    assert (a.method, a.concurrency, a.timeout, a.expires) == ("POST", 4, 10.0, 86400.0)
    assert (a.batch.max_items, a.batch.max_bytes, a.batch.linger) == (100, 2**21, 0.0)
    assert (a.envelope.kind, a.compress, a.coalesce.mode, a.on_dead) == ("array", "gzip", "none", "skip")
    assert (a.learn_limit, a.results, a.confirm) == (True, None, None)
    assert (a.retry.times, a.retry.backoff.base, a.retry.backoff.cap) == (3, 2.0, 600.0)
    assert a.breaker == BreakerSection(open_after=5, probe_every="30s")
    assert (a.rate, a.burst, a.key, a.classify, config.warnings) == ((), None, None, (), ())


def test_store_rules(tmp_path: Path) -> None:
    """A store gets shared quotas by name, a platform's own rate as platform:NAME, and the queueing rules."""
    config = loaded(
        tmp_path,
        """
version: 1
store: {keep: {delivered: 1d, dead: 2d, samples: 5h, audit: 400d}, max_size: 64MiB}
quotas: {app: {rate: [40/s, 100000/day], burst: 9}}
platforms:
  a: {url: https://a/, rate: 100/min, burst: 20, quotas: [app], coalesce: latest, on_dead: block}
  b: {url: https://b/}
  c: {url: https://c/, quotas: [app], share: 3, group: shop, group_share: {"17": 2},
      coalesce: {mode: latest, quiet: 5s, max: 9s}}
""",
    )
    rules = config.store_rules()
    assert rules.quotas == {
        "app": Quota("app", (Rate(40, 1.0), Rate(100000, 86400.0)), 9),
        "platform:a": Quota("platform:a", (Rate(100, 60.0),), 20),
    }
    assert rules.platforms == {
        "a": PlatformRules(("platform:a", "app"), True, True),
        "b": PlatformRules(),
        "c": PlatformRules(("app",), True, quiet_s=5.0, gather_s=9.0, share=3, group_share={"17": 2}),
    }
    assert (rules.keep_delivered_s, rules.keep_dead_s) == (86400.0, 172800.0)
    assert (rules.keep_samples_s, rules.keep_audit_s, rules.max_size_bytes) == (18000.0, 400 * 86400.0, 2**26)


def test_every_setting_of_a_platform_reaches_delivery(tmp_path: Path) -> None:
    """None of them is read, shown as in force, and then left behind."""
    config = loaded(
        tmp_path,
        """
version: 1
platforms:
  a:
    url: https://u@A.example:8443/x
    method: PUT
    headers: {x-shop: "1"}
    concurrency: 7
    timeout: 11s
    batch: {max_items: 12, max_bytes: 13KiB, linger: 14s}
    compress: zstd
    retry: {times: 15, backoff: 16s..17s}
    breaker: {open_after: 18, probe_every: 19s}
    group: shop
    send: {between: ["08:00", "22:00"], tz: "+08:00"}
    objective: {within: 20s, share: 95%}
    coalesce: {mode: latest, quiet: 5s, max: 9s}
    learn_limit: observe
    learn_floor: 3/s
    classify: [{status: 200, as: duplicate}]
    confirm: {url: "https://a.example/{key}", method: POST, headers: {x-shop: "2"}, ambiguous: true,
              classify: [{status: 404, as: reject}]}
    connect: {proxy: "http://p.example:3128", proxy_auth: "me:s:cret", dns_cache: 21s, source: 127.0.0.9}
outbound: {deny_private: true}
""",
    )
    (terms,) = compile_all(config)
    hours = SendingHours(time(8), time(22), timezone(timedelta(hours=8)))
    assert (terms.platform, terms.url, terms.method, terms.destination) == (
        "a", "https://u@A.example:8443/x", "PUT", "a.example:8443",
    )  # fmt: skip
    assert (terms.headers, terms.concurrency, terms.timeout_s, terms.codec) == ({"x-shop": "1"}, 7, 11.0, "zstd")
    assert (terms.max_items, terms.max_bytes, terms.linger_s, terms.gather_s) == (12, 13 * 1024, 14.0, 9.0)
    assert (terms.budget, terms.breaker) == (Budget(15, 16.0, 17.0), BreakerTerms(18, 19.0))
    assert (terms.grouped, terms.hours, terms.objective) == (True, hours, Objective(20.0, 0.95, hours))
    assert terms.learn == LearnTerms(Mode.OBSERVE, Rate(3, 1.0))
    assert [rule.outcome for rule in terms.rules] == [Outcome.DUPLICATE]
    asking = terms.asking
    assert asking is not None
    assert (asking.headers, asking.body, asking.ambiguous) == ({"x-shop": "2"}, None, True)
    assert [rule.outcome for rule in asking.rules] == [Outcome.REJECT]
    way = terms.outbound
    assert (way.proxy, way.proxy_auth, way.dns_cache_s, way.source, way.tls) == (
        "http://p.example:3128", ("me", "s:cret"), 21.0, "127.0.0.9", None,
    )  # fmt: skip
    assert way.denied is not None
    assert way.denied("10.0.0.5") is not None


def test_defaults_lie_under_every_platform(tmp_path: Path) -> None:
    """Mappings are merged key by key, lists and words replaced; a platform's own value wins."""
    config = loaded(
        tmp_path,
        """
version: 1
defaults:
  url: https://all/
  headers: {A: "1", B: "2"}
  rate: [10/s, 100/min]
  retry: {times: 7}
  breaker: off
platforms:
  a:
  b: {url: https://b/, headers: {B: "3"}, rate: 5/s, retry: {backoff: 1s..2s}, breaker: {open_after: 2}}
""",
    )
    a, b = config.platforms["a"], config.platforms["b"]
    assert (a.url, dict(a.headers), a.rate) == ("https://all/", {"A": "1", "B": "2"}, (Rate(10, 1.0), Rate(100, 60.0)))
    assert (a.retry.times, a.retry.backoff.base, a.breaker) == (7, 2.0, None)
    assert (b.url, dict(b.headers), b.rate) == ("https://b/", {"A": "1", "B": "3"}, (Rate(5, 1.0),))
    assert (b.retry.times, b.retry.backoff.base, b.breaker.open_after if b.breaker else 0) == (7, 1.0, 2)


def test_a_mistake_in_defaults_is_reported_once(tmp_path: Path) -> None:
    """However many platforms take a wrong value over, it is named once, where it stands."""
    found = problems(
        tmp_path,
        "version: 1\ndefaults: {timeout: 10, batch: {max_item: 5}}\nplatforms:\n"
        "  a: {url: https://a/}\n  b: {url: https://b/, batch: {linger: 1s}}\n  c: {url: https://c/, timeout: 5s}\n",
    )
    assert [str(one).partition("config.yaml:")[2] for one in found] == [
        "2:21: E021 defaults.timeout: duration 10 has no unit; write 10s or 10m",
        "2:33: E010 unknown key 'max_item' in defaults.batch; did you mean 'max_items'?",
    ]


def test_empty_sections_count_as_absent(tmp_path: Path) -> None:
    """A section with everything below it commented out is no mistake; a key without a value is."""
    assert loaded(tmp_path, MINIMAL + "defaults:\nquotas:\nstore:\ningest:\nadmin:\n").store.max_size == 2**31
    assert [one.code for one in platform(tmp_path, "rate:\ntimeout: ~")] == ["E014", "E014"]


def test_a_single_envelope_carries_one(tmp_path: Path) -> None:
    """With one callback per request, max_items is 1 whatever the defaults say."""
    text = MINIMAL.replace("a.example/", "a.example/, envelope: single") + "defaults: {batch: {max_items: 50}}\n"
    assert loaded(tmp_path, text).platforms["a"].batch.max_items == 1


def test_store_path(tmp_path: Path) -> None:
    """A relative store lies in the state directory where there is one, else beside the file; an absolute one stays."""
    config = loaded(tmp_path, MINIMAL)
    assert config.store_path == tmp_path / "relay.db"
    assert loaded(tmp_path, MINIMAL, {"STATE_DIRECTORY": "/var/lib/relay:/x"}).store_path == Path(
        "/var/lib/relay/relay.db"
    )
    assert loaded(tmp_path, MINIMAL + "store: {url: sqlite:/srv/r.db}\n").store_path == Path("/srv/r.db")


def test_the_configuration_is_frozen(tmp_path: Path) -> None:
    """Nothing changes a loaded configuration; a reload builds a new one, equal where the file is."""
    config = loaded(tmp_path, MINIMAL)
    with pytest.raises(ValidationError):
        config.platforms["a"].timeout = 1.0  # type: ignore[misc]
    assert loads(MINIMAL, path="other.yaml", environ={}).platforms == config.platforms


def test_classify_rules(tmp_path: Path) -> None:
    """Every form of condition and wait is read, and is what the classifier compiles."""
    config = loaded(
        tmp_path,
        r"""
version: 1
platforms:
  a:
    url: https://a/
    classify:
      - {status: [200, 5xx], path: errcode, in: [0, "ok", null], as: ok}
      - {header: X-Busy, exists: true, as: throttled, wait: 60s}
      - {path: msg, regex: 'in (\d+) s', as: retry, wait: {path: msg, regex: 'in (\d+) s', unit: s}}
      - {status: 429, as: throttled, wait: {header: X-Reset, unit: epoch_s, cap: 1d}}
      - {status: 403, as: throttled, wait: {align: day, tz: +08:00}}
      - {status: 200, in: [success], as: ok}
""",
    )
    first, busy, text, reset, day, body = config.platforms["a"].classify
    assert first.status == frozenset({200, *range(500, 600)})
    assert (str(first.path), first.values, first.outcome) == ("errcode", (0, "ok", None), Outcome.OK)
    assert busy.wait is not None
    assert (busy.header, busy.exists, busy.wait.seconds, busy.wait.cap) == ("X-Busy", True, 60.0, 3600.0)
    assert text.regex is not None
    assert text.regex.search("retry in 5 s")
    assert text.wait is not None
    assert (str(text.wait.path), text.wait.unit) == ("msg", "s")
    assert reset.wait is not None
    assert (reset.wait.header, reset.wait.unit, reset.wait.cap) == ("X-Reset", "epoch_s", 86400.0)
    assert day.wait is not None
    assert (day.wait.align, day.wait.tz) == ("day", 28800.0)
    assert (body.path, body.header, body.values) == (None, None, ("success",))
    compiled = [rule.compiled for rule in config.platforms["a"].classify]
    assert [rule.outcome for rule in compiled] == [rule.outcome for rule in config.platforms["a"].classify]


FIVE = """\
version: 1
ingest: {listen: 127.0.0.1:8787, max_body: 60}
quotas:
  wechat-app: {rate: 40/s}
platforms:
  shop-a:
    url: https://api.shop-a.example/callbacks
    rate_limt: 100/min
    quotas: [wechat-ap]
    key: "order id"
    classify:
      - {status: 200, path: errcode, in: [0], as: okk}
"""


def test_five_mistakes_at_once(tmp_path: Path) -> None:
    """All problems come together, in the order of the file, with exact places, codes and what was meant."""
    found = problems(tmp_path, FIVE)
    assert [str(one).removeprefix(str(tmp_path / "config.yaml")) for one in found] == [
        ":2:44: E022 ingest.max_body: size 60 has no unit; write 60KiB or 60MiB",
        ":8:5: E010 unknown key 'rate_limt' in platforms.shop-a; did you mean 'rate'?",
        ":9:14: E050 platforms.shop-a.quotas[0]: there is no quota 'wechat-ap'; did you mean 'wechat-app'?",
        ":10:17: E027 platforms.shop-a.key: 'order id' is not a JMESPath expression; see https://jmespath.org",
        ":12:51: E015 platforms.shop-a.classify[0].as: 'okk' is not an outcome; did you mean 'ok'?",
    ]
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path / "config.yaml")
    assert str(caught.value) == "\n".join(str(one) for one in found)


@pytest.mark.parametrize(
    ("settings", "line", "col", "code", "hint"),
    [
        ("timeot: 3s", 5, 5, "E010", "did you mean 'timeout'?"),
        ("max_items: 3", 5, 5, "E010", "did you mean 'batch.max_items'?"),
        ("attempts: 3", 5, 5, "E010", "did you mean 'retry.times'?"),
        ("retry: {time: 3}", 5, 13, "E010", "did you mean 'times'?"),
        ("envelope: arry", 5, 15, "E015", "did you mean 'array'?"),
        ("envelope: {kind: xml}", 5, 22, "E015", "choices are array, ndjson, single, object, form, cloudevents"),
        ("envelope: object", 5, 15, "E051", ""),
        ("envelope: {kind: form, static: {a: b}}", 5, 15, "E051", ""),
        ("envelope: {kind: single, items_at: x}", 5, 15, "E051", ""),
        ("envelope: {kind: object, items_at: a.b, static: {a: 1}}", 5, 15, "E051", ""),
        ("envelope: {kind: object, items_at: a, static: {a: 1}}", 5, 15, "E051", ""),
        ("envelope: {kind: object, item: {a: id}, static: {a: 1}}", 5, 15, "E051", ""),
        ("envelope: {kind: form, items_at: a, static: {a: 1}}", 5, 15, "E051", ""),
        ("envelope: {kind: object, item: {lines: [{id: 'a['}]}}", 5, 53, "E027", "see https://jmespath.org"),
        ("envelope: {kind: object, items_at: o, item: {a: }}", 5, 50, "E014", "give it one, or remove the key"),
        ("envelope: {kind: cloudevents, source: ''}", 5, 15, "E031", "leave it out or name something"),
        ("method: '{verb}'", 5, 13, "E051", "write envelope: single"),
        ("results: {shape: by_index}", 5, 5, "E011", ""),
        ("results: {shape: by_id, at: errors}", 5, 14, "E051", "add id: NAME"),
        (
            "results: {shape: by_index, at: errors, covers: all}",
            5,
            14,
            "E051",
            "add failed_if, or classify rules that say as: ok",
        ),
        ("results: {shape: by_index, at: 'e['}", 5, 39, "E027", "see https://jmespath.org"),
        (
            "results: {shape: by_index, at: e, classify: [{path: c, in: [1], as: split}]}",
            5,
            73,
            "E030",
            "choices are confirm, duplicate, ok, reject, retry, throttled",
        ),
        ("confirm: {url: https://a.example/}", 5, 5, "E011", ""),
        ("confirm: {url: https://a.example/, classify: []}", 5, 14, "E051", "add a rule, as: ok"),
        (
            "confirm: {url: https://a.example/, body: {a: b}, classify: [{status: 200, as: ok}]}",
            5,
            14,
            "E051",
            "write method: POST, or remove the body",
        ),
        ("concurrency: '4'", 5, 18, "E013", "write 4 without quotes"),
        ("concurrency: 0", 5, 18, "E016", ""),
        ("concurrency: 4.5", 5, 18, "E013", ""),
        ("concurrency: 1" + "0" * 5000, 5, 18, "E013", ""),
        ("timeout: 0s", 5, 14, "E016", ""),
        ("headers: {X-A: 5}", 5, 20, "E013", "put it in quotes"),
        ("headers: {'a b': c}", 5, 15, "E029", "write a name such as Retry-After"),
        ("headers: {Content-Length: '5'}", 5, 15, "E029", "remove it"),
        ("headers: {a: b, A: c}", 5, 24, "E029", ""),
        ("rate: 0/s", 5, 11, "E020", "use `relay pause` to stop a platform"),
        ("rate: [10/s, 100]", 5, 18, "E020", "write 100/s or 100/min"),
        ("burst: 5", 5, 12, "E051", "add rate: N/min"),
        ("rate: [3/s, 100/min]\nburst: 5", 6, 12, "E051", "write 3 or less, or leave it out"),
        ("quotas: app", 5, 13, "E013", "write [app]"),
        ("quotas: [app]", 5, 14, "E050", "add it under `quotas:`"),
        ("breaker: false", 5, 14, "E015", "write breaker: off"),
        ("breaker: {open_after: 0}", 5, 27, "E016", ""),
        ("learn_limit: observ", 5, 18, "E015", "choices are true, observe, false"),
        ("learn_limit: off", 5, 18, "E015", "did you mean false? choices are true, observe, false"),
        ("learn_limit: enforce", 5, 18, "E015", "did you mean true? choices are true, observe, false"),
        ("compress: lz4", 5, 15, "E015", "choices are none, gzip, zstd"),
        ("method: post", 5, 13, "E015", "did you mean 'POST'?"),
        ("batch: 5", 5, 12, "E013", ""),
        ("key: $.order.id", 5, 10, "E027", "did you mean order.id?"),
        ("key: order-id", 5, 15, "E027", 'names with - or a leading digit need quotes: "order-id"'),
        ("retry: {backoff: 10m..2s}", 5, 22, "E023", "did you mean 2s..10m?"),
        ("classify: [{as: ok}]", 5, 16, "E030", "add status: 2xx"),
        ("classify: [{status: 2xx}]", 5, 16, "E011", ""),
        ("classify: [{status: 700, as: ok}]", 5, 25, "E030", "write 200, 2xx or a list such as [200, 202, 5xx]"),
        ("classify: [{status: [200, 700], as: ok}]", 5, 31, "E030", "write 200, 2xx or a list such as [200, 202, 5xx]"),
        ("classify: [{path: a, as: ok}]", 5, 16, "E030", ""),
        ("classify: [{path: a, header: b, in: [1], as: ok}]", 5, 16, "E030", "make it two rules, or drop one"),
        ("classify: [{status: 200, exists: true, as: ok}]", 5, 16, "E030", "add path: or header:"),
        ("classify: [{in: [a], regex: a, as: ok}]", 5, 16, "E030", "make it two rules, or drop one"),
        ("classify: [{status: 200, as: ok, wait: 5s}]", 5, 16, "E030", "remove it"),
        ("classify: [{status: 429, as: retry, wait: 5}]", 5, 47, "E021", "write 5s or 5m"),
        ("classify: [{status: 429, as: retry, wait: {unit: s}}]", 5, 47, "E030", "write wait: 60s"),
        (
            "classify: [{status: 429, as: retry, wait: {align: day, tz: Asia/Shanghai}}]",
            5,
            64,
            "E031",
            'write "+08:00" or UTC',
        ),
        ("classify: [{path: a, regex: '(', as: ok}]", 5, 33, "E028", ""),
        ("classify: [{path: a, regex: 'a(', as: ok}]", 5, 35, "E028", ""),
        ("classify: {status: 200}", 5, 15, "E013", "start each entry with `- `"),
    ],
)
def test_platform_mistakes(tmp_path: Path, settings: str, line: int, col: int, code: str, hint: str) -> None:
    """Each mistake in a platform is one problem at its place, with what to write."""
    (found,) = platform(tmp_path, settings)
    assert (found.line, found.col, found.code, found.hint) == (line, col, code, hint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 2\nplatforms: {a: {url: https://a/}}\n", [(1, 10, "E008")]),
        ("platforms: {a: {url: https://a/}}\n", [(1, 1, "E011")]),
        ("version: 1\n", [(1, 1, "E011")]),
        ("version: 1\nplatforms:\n", [(2, 1, "E014")]),
        ("version: 1\nplatforms: []\n", [(2, 12, "E013")]),
        ("version: 1\nplatforms: {}\n", [(2, 12, "E053")]),
        ("version: 1\nplatforms: {a: 5}\n", [(2, 16, "E013")]),
        ("version: 1\nplatforms: {_a: {url: https://a/}}\n", [(2, 13, "E026")]),
        ("version: 1\nplatforms: {a b: {url: https://a/}}\n", [(2, 13, "E026")]),
        ("version: 1\nplatforms: {ｓｈｏｐ: {url: https://a/}}\n", [(2, 13, "E026")]),
        ("version: 1\nplatforms: {'learned:a': {url: https://a/}}\n", [(2, 13, "E026")]),
        ("version: 1\nplatforms: {a: {rate: 1/s}}\n", [(2, 13, "E011")]),
        ("version: 1\nplatforms: {a: {url: ftp://a/}, b: {url: a.b/c}, c: {url: 'http://'}, d: {url: 'http://a/#x'}}\n",
         [(2, 22, "E024"), (2, 42, "E024"), (2, 59, "E024"), (2, 80, "E024")]),
        (MINIMAL + "reconcile: []\nplatfroms: {}\n", [(3, 12, "E013"), (4, 1, "E010")]),
        (MINIMAL + "quotas: {q: {burst: 3}, r: {rate: 1/s, per: shop}}\n", [(3, 13, "E011"), (3, 45, "E015")]),
        (MINIMAL + "quotas: {'learned:a': {rate: 1/s}}\n", [(3, 10, "E026")]),
        (MINIMAL + "store: {url: redis+cluster://h/1}\n", [(3, 14, "E031")]),
        (MINIMAL + "store: {url: redis://h/x}\n", [(3, 14, "E031")]),
        (MINIMAL + "store: {url: relay.db, max_size: 0MiB}\n", [(3, 14, "E031"), (3, 34, "E016")]),
        (MINIMAL + "ingest: {listen: 8787}\n", [(3, 18, "E025")]),
        (MINIMAL + "ingest: {listen: '::1:8787'}\n", [(3, 18, "E025")]),
        (MINIMAL + "ingest: {listen: [localhost, 'unix:x', 'a:70000', '[::1]:80']}\n",
         [(3, 19, "E025"), (3, 30, "E025"), (3, 40, "E025")]),
        (MINIMAL + "ingest: {listen: []}\n", [(3, 18, "E025")]),
        (MINIMAL + "ingest: {listen: 127.0.0.1:8788}\nadmin: {listen: 127.0.0.1:8788}\n", [(4, 17, "E052")]),
        (MINIMAL + "ingest: {listen: ['a:1', 'a:1'], insecure: true}\n", [(3, 26, "E052")]),
        (MINIMAL + "admin: {listen: 0.0.0.0:80}\n", [(3, 17, "E054")]),
        (MINIMAL + "admin: {users: [{name: a, role: boss, token: ''}]}\n", [(3, 33, "E015"), (3, 46, "E031")]),
        (MINIMAL + "ingest: {max_body: 2MiB, max_bulk: 1MiB}\n", [(3, 36, "E051")]),
    ],
)  # fmt: skip
def test_mistakes_elsewhere(tmp_path: Path, text: str, expected: list[tuple[int, int, str]]) -> None:
    """Each mistake outside a platform is one problem at its place; none follows from another."""
    assert codes(tmp_path, text) == expected


ROUTED = "version: 1\nplatforms: {a: {url: https://a/}, b: {url: https://b/}}\n"
OPEN = MINIMAL.removesuffix("}}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ROUTED + "routes: [{match: {x: 1}, to: [zz]}, {match: {x: 2}, to: 5}, {match: {x: 3}, to: [yy]}]\n",
         [(3, 31, "E062"), (3, 57, "E013"), (3, 82, "E062")]),
        (ROUTED + "routes: [{match: {}, to: [zz, 5, yy]}, 5, {to: [xx]}, {match: {x: 1}, to: [a]}]\n",
         [(3, 18, "E060"), (3, 27, "E062"), (3, 31, "E026"), (3, 34, "E062"), (3, 40, "E013"), (3, 43, "E060"),
          (3, 49, "E062")]),
        (ROUTED + "routes: [{otherwise: bogus}, {match: {x: 1}, to: [a]}, 5, {match: {x: 1}, to: [b]}]\n",
         [(3, 22, "E015"), (3, 56, "E013"), (3, 59, "E064")]),
        (ROUTED + "routes: [{match: {x: 1}, too: [a]}, {match: {}}, {otherwise: reject, to: [a]}]\n",
         [(3, 26, "E010"), (3, 45, "E060"), (3, 50, "E060")]),
        ("version: 1\nplatforms: {a: 5}\nroutes: [{match: {}}, {match: {x: }}]\n",
         [(2, 16, "E013"), (3, 18, "E060"), (3, 32, "E014")]),
        (OPEN + ", classify: [{status: 2000, as: ok}, {path: x, in: [1], as: ok}, {path: x, in: [1], as: retry}]}}",
         [(2, 62, "E030"), (2, 105, "E056")]),
        (OPEN + ", results: {shape: by_index, at: e, classify: [{status: 200, as: split}, {status: 400, as: plain}, "
         "{status: 500, as: split}]}}}", [(2, 105, "E030"), (2, 131, "E015"), (2, 157, "E030")]),
        (OPEN + ", envelope: {kind: object, items_at: o, static: {classify: [{x: }]}}, burst: 3}}",
         [(2, 101, "E014"), (2, 117, "E051")]),
        (OPEN + ", burst: 3, timeout: 5}}\n", [(2, 49, "E051"), (2, 61, "E021")]),
        (OPEN + ", burst: 3, rat: 5/s}}\n", [(2, 52, "E010")]),
        (OPEN + ", quotas: [5, gone], connect: {cert: 5, key: k}}}\n",
         [(2, 51, "E026"), (2, 54, "E050"), (2, 77, "E013")]),
        (OPEN + ", headers: {'a b': c, Connection: close, A: ' d'}}}\n",
         [(2, 52, "E029"), (2, 62, "E029"), (2, 84, "E029")]),
        (MINIMAL + "admin: {listen: [x, '0.0.0.0:80', '[::1]:80', '[::1]:80']}\n",
         [(3, 18, "E025"), (3, 21, "E054"), (3, 47, "E052")]),
        (MINIMAL + "admin: {users: [{name: a, role: boss, token: t}, {name: a, role: viewer, token: t}, 5, {}]}\n",
         [(3, 33, "E015"), (3, 57, "E052"), (3, 81, "E052"), (3, 85, "E013"),
          (3, 88, "E011"), (3, 88, "E011"), (3, 88, "E011")]),
    ],
)  # fmt: skip
def test_a_bad_entry_hides_no_other(tmp_path: Path, text: str, expected: list[tuple[int, int, str]]) -> None:
    """What contradicts something else is told beside what cannot be read, and nothing is said that only follows."""
    assert codes(tmp_path, text) == expected


def test_a_name_may_be_chinese(tmp_path: Path) -> None:
    """Letters are those of any script."""
    assert list(loaded(tmp_path, "version: 1\nplatforms: {淘宝-2: {url: https://a/}}\n").platforms) == ["淘宝-2"]


def test_warnings(tmp_path: Path) -> None:
    """What is usable but worth knowing comes with a place and does not stop anything."""
    config = loaded(
        tmp_path,
        """version: 1
ingest: {listen: 0.0.0.0:8787, max_body: 4MiB, insecure: true}
quotas: {unused: {rate: 1/s}}
platforms:
  a: {url: "https://u:p@a/", batch: {max_bytes: 8MiB}}
  b: {url: http://b/, headers: {Authorization: "Bearer ${env:T}"}}
""",
        {"T": "t"},
    )
    assert [(one.line, one.col, one.code) for one in config.warnings] == [
        (2, 18, "W006"), (3, 10, "W003"), (5, 12, "W001"), (6, 3, "W005"), (6, 12, "W004"),
    ]  # fmt: skip


def test_groups(tmp_path: Path) -> None:
    """``group``, a quota ``per: group`` and a rule's ``scope`` are read; such a quota without groups is a warning."""
    config = loaded(
        tmp_path,
        """
version: 1
quotas: {shop: {rate: 10/s, per: group}, app: {rate: 40/s}}
platforms:
  a: {url: https://a/, group: shop_id, quotas: [shop, app],
      classify: [{status: 429, as: throttled, scope: platform}, {status: 200, as: ok}]}
  b: {url: https://b/, quotas: [app, shop]}
""",
    )
    assert config.store_rules().quotas == {
        "shop": Quota("shop", (Rate(10, 1.0),), per_group=True),
        "app": Quota("app", (Rate(40, 1.0),)),
    }
    a, b = config.platforms["a"], config.platforms["b"]
    assert (a.group, b.group) == ("shop_id", None)
    assert [rule.compiled.scope for rule in a.classify] == ["platform", "group"]
    assert [(one.line, one.col, one.code) for one in config.warnings] == [(7, 38, "W009")]
    assert [compile_terms(name, of).grouped for name, of in config.platforms.items()] == [True, False]
    found = directory(config).platforms["a"]
    assert (found.needs_json, found.group_path) == (True, "shop_id")
    assert found.group is not None
    assert found.group(b'{"shop_id": 7}') == "7"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("group: shop.[", "E027"),
        ("classify: [{status: 200, as: ok, scope: group}]", "E030"),
        ("classify: [{status: 429, as: throttled, scope: shop}]", "E015"),
    ],
)
def test_mistakes_with_groups(tmp_path: Path, line: str, code: str) -> None:
    """A path that does not compile, a scope without a meaning, and one that does not exist."""
    assert [one.code for one in platform(tmp_path, line)] == [code]


def test_the_committed_schema_is_current() -> None:
    """The file editors use says what the code accepts; `relay config schema > relay.schema.json` renews it."""
    assert (ROOT / "relay.schema.json").read_text(encoding="utf-8") == json_schema_text()


def test_every_key_is_described() -> None:
    """Each key of each section has a description, for editors and the reference page."""
    schema = json_schema()
    sections = [schema, *schema["definitions"].values()]
    silent = [
        key
        for section in sections
        for key, value in section.get("properties", {}).items()
        if not (value.get("description") or "$ref" in value)
    ]
    silent += [name for name, section in schema["definitions"].items() if not section.get("description")]
    assert silent == []
    assert all(section["additionalProperties"] is False for section in sections)


def test_every_code_is_documented() -> None:
    """The page of problems explains each code, and no other."""
    page = (ROOT / "docs" / "config-errors.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([EW]\d{3}) \|", page, re.MULTILINE) == list(CODES)


def test_the_example_fits_the_schema_patterns() -> None:
    """The repository's config.yaml loads without problem or warning, and the schema is valid JSON."""
    config = load(ROOT / "config.yaml", environ={})
    assert config.warnings == ()
    assert set(config.platforms) == {"shop-a", "wechat-shipping", "stock-mirror"}
    assert json.loads(json_schema_text())["definitions"]["PlatformSection"]["required"] == ["url"]


def test_envelopes_as_mappings(tmp_path: Path) -> None:
    """The kinds with settings, and envelopes of one callback that set `batch.max_items` to 1."""
    text = """
version: 1
platforms:
  woo:
    url: https://a.example/
    envelope: {kind: object, items_at: update, static: {source: relay}}
  wechat:
    url: https://a.example/{shop.id}?o={key}
    method: "{verb}"
    envelope: {kind: object, item: {order: {id: order.id}, mode: 1, lines: [{no: no}]}, static: {v: "2"}}
  top: {url: https://a.example/, envelope: {kind: form, static: {method: a.b}, item: {param_json: "@"}}}
  sink: {url: https://a.example/, envelope: cloudevents}
  one: {url: https://a.example/, envelope: {kind: cloudevents, source: /shop, type: order, mode: structured}}
"""
    platforms = loaded(tmp_path, text).platforms
    assert {name: platform.batch.max_items for name, platform in platforms.items()} == {
        "woo": 100,
        "wechat": 1,
        "top": 1,
        "sink": 100,
        "one": 1,
    }
    woo = platforms["woo"].envelope
    assert (woo.kind, woo.items_at, woo.static) == ("object", "update", {"source": "relay"})
    assert [one.envelope.compiled.kind for one in platforms.values()] == [
        one.envelope.kind for one in platforms.values()
    ]


def test_results_and_confirm(tmp_path: Path) -> None:
    """Both are read with their defaults and compile with the code that runs them."""
    text = """
version: 1
platforms:
  a:
    url: https://a.example/
    results:
      shape: by_id
      at: failed
      id: insert_id
      classify: [{path: code, in: [7], as: retry, wait: 5s}]
    confirm:
      url: https://a.example/orders/{key}
      classify: [{status: 404, as: retry}, {path: status, in: [shipped], as: ok}]
"""
    terms = compile_terms("a", loaded(tmp_path, text).platforms["a"])
    assert terms.results is not None
    assert (terms.results.by_id, terms.results.covers_all, terms.results.item_id_name) == (True, False, "insert_id")
    assert terms.asking is not None
    assert terms.asking.target.of(TemplateFields(b"{}", "o/1", None, "id")) == ("GET", "https://a.example/orders/o%2F1")
    assert terms.read_back == "ambiguous"


@pytest.mark.parametrize(
    ("shape", "unused"),
    [
        ("by_index", ["platforms.a.results.id", "platforms.a.results.item_id"]),
        ("by_id", ["platforms.a.results.index"]),
    ],
)
def test_results_may_name_what_their_shape_does_not_use(tmp_path: Path, shape: str, unused: list[str]) -> None:
    """``index``, ``id`` and ``item_id`` may stand together: what the shape does not look at is a warning."""
    config = loaded(
        tmp_path,
        f"""
version: 1
platforms:
  a:
    url: https://a.example/
    results:
      {{shape: {shape}, at: failed_records, index: index, id: insert_id, item_id: insert_id, failed_if: error,
       covers: failures}}
""",
    )
    assert [(one.code, one.message.partition(" ")[0]) for one in config.warnings] == [("W010", key) for key in unused]
    results = compile_terms("a", config.platforms["a"]).results
    assert results is not None
    assert (results.by_id, results.item_id_name) == ((True, "insert_id") if shape == "by_id" else (False, "@"))


@pytest.mark.parametrize(
    ("rules", "column"),
    [
        ("[{status: 200, as: ok}, {status: 200, path: a, in: [1], as: reject}]", 39),
        ("[{status: 2xx, as: ok}, {status: [200, 204], as: reject}]", 39),
        ("[{path: a, in: [1, 2], as: ok}, {status: 200, path: a, in: [2], as: reject}]", 47),
        ("[{path: a, exists: true, as: ok}, {path: a, in: [2], as: reject}]", 49),
        ("[{path: a, regex: x, as: ok}, {path: a, regex: x, as: reject}]", 45),
    ],
)
def test_rules_that_can_never_match(tmp_path: Path, rules: str, column: int) -> None:
    """A rule that an earlier one leaves nothing for is named, with the earlier one."""
    (problem,) = platform(tmp_path, f"classify: {rules}")
    assert (problem.code, problem.line, problem.col, problem.hint) == (
        "E056",
        5,
        column,
        "put it before rule 0, or remove it",
    )


def test_rules_that_may_match(tmp_path: Path) -> None:
    """Rules that only seem alike are left alone."""
    rules = (
        "[{status: 200, path: a, in: [1], as: ok}, {path: a, in: [1], as: reject}, {path: a, in: [1, 2], as: retry}, "
        "{path: a, exists: true, as: reject}, {path: b, in: [null], as: ok}, {status: 2xx, as: ok}, "
        "{status: 4xx, as: ok}]"
    )
    loaded(tmp_path, MINIMAL.replace("a.example/", f"a.example/, classify: {rules}"))


@pytest.mark.parametrize(
    ("url", "envelope", "code"),
    [
        ("https://a.example/{order_id}", "array", "E051"),
        ("https://{shop}.example/", "single", "E024"),
        ("https://a.example/{a}}", "single", "E024"),
        ("https://a.example/{}", "single", "E024"),
        ("https://a.example/{a[}", "single", "E027"),
    ],
)
def test_fields_in_urls(tmp_path: Path, url: str, envelope: str, code: str) -> None:
    """Fields go into path and query of an envelope of one callback; what cannot be filled in is named on one line."""
    text = f"version: 1\nplatforms:\n  a:\n    url: '{url}'\n    envelope: {envelope}\n"
    (found,) = problems(tmp_path, text)
    assert (found.line, found.col, found.code) == (4, 10, code)
    assert "\n" not in str(found)


def test_a_file_read_again_makes_the_same_terms(tmp_path: Path) -> None:
    """A reload of an unchanged file touches no platform, whatever is compiled for it: envelope, signer, rules."""
    text = """\
version: 1
platforms:
  a:
    url: https://a.example/
    envelope: {kind: object, items_at: orders, static: {app: 1}}
    sign: {kind: hmac, secret: s, header: X-Sign}
    results: {shape: by_id, at: failed, id: id}
    classify:
      - {path: errcode, in: [0], as: ok}
      - {header: X-Busy, regex: y, as: throttled, wait: {header: X-Wait}}
"""
    assert compile_all(loaded(tmp_path, text)) == compile_all(loaded(tmp_path, text))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("{within: 90s}", []),
        ("{within: 90s, share: 99.5%}", []),
        ("{within: 90s, share: 0%}", [(2, 74, "E016")]),
        ("{within: 90s, share: 101%}", [(2, 74, "E016")]),
        ("{within: 25h}, expires: 48h", [(2, 62, "E016")]),
        ("{share: 99%}", [(2, 42, "E011")]),
        ("{within: 90s, share: 99}", [(2, 74, "E016")]),
        ("{within: 24h}", [(2, 62, "E051")]),  # it expires before it can be late
        ("{within: 5s}, batch: {linger: 5s}", [(2, 83, "E051")]),
        ("{within: 5s}, coalesce: {mode: latest, quiet: 5s}", [(2, 99, "E051")]),
        ("{within: 5s}, coalesce: {mode: latest, quiet: 4s}", []),
    ],
)
def test_an_objective_that_can_be_kept(tmp_path: Path, objective: str, expected: list[tuple[int, int, str]]) -> None:
    """A share above 0 %, a time within a day, and nothing that is late before it may be sent."""
    text = f"{OPEN}, objective: {objective}}}}}\n"
    if not expected:
        assert loaded(tmp_path, text).platforms["a"].objective is not None
    else:
        assert codes(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("burns", "told"),
    [
        ("off", "E013 alerts.rules.objective.burns must be a number, not 'off'"),
        ("'2'", "E013 alerts.rules.objective.burns must be a number, not '2'; write 2 without quotes"),
        ("0", "E016 alerts.rules.objective.burns must be above 0, not 0"),
        ("2000", "E016 alerts.rules.objective.burns must be at most 1000, not 2000"),
    ],
)
def test_a_number_that_is_none_is_said_so(tmp_path: Path, burns: str, told: str) -> None:
    """In words, with the bound as it is written."""
    text = MINIMAL + f"alerts: {{rules: {{objective: {{burns: {burns}}}}}}}\n"
    (problem,) = problems(tmp_path, text)
    assert str(problem).partition(":3:37: ")[2] == told
