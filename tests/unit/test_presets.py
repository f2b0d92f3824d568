"""Presets: each is a usable platform once its needs are supplied, can be overridden, and says what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from relay.cli.commands.presets import presets
from relay.config.effective import effective
from relay.config.load import loads
from relay.config.problems import ConfigInvalid
from relay.config.reading.presets import Preset, preset, preset_names
from relay.config.schema.file import Config
from relay.core.model import Outcome
from relay.delivery.terms import compile_terms
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from tests.unit.config_files import loaded, problems

FIRST = (
    "wechat-shipping", "taobao-logistics", "standard-webhooks", "woocommerce-batch", "mixpanel-import", "cloudevents",
)  # fmt: skip
AS_DATA = (
    "dingtalk-robot",
    "wecom-robot",
    "feishu-robot",
    "alertmanager",
    "doudian-logistics",
    "pinduoduo-logistics",
    "jd",
    "youzan",
    "shopify",
    "magento-bulk",
)
SUPPLIED = {"url": "https://there.example/hook", "sign.secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


def supplied(found: Preset) -> dict[str, Any]:
    """Return a platform with the preset and something for all it needs."""
    platform: dict[str, Any] = {"preset": found.name}
    for need in found.needs:
        place = platform
        for part in need.path[:-1]:
            place = place.setdefault(part, {})
        place[need.path[-1]] = SUPPLIED.get(need.key, "something")
    return platform


def compiled(platform: dict[str, Any], **top: Any) -> Config:
    """Load a configuration with this one platform."""
    text = yaml.safe_dump({"version": 1, **top, "platforms": {"a": platform}})
    return loads(text, path="config.yaml", environ={})


def test_every_preset_asked_for_is_there() -> None:
    """The first six and the six with what is known."""
    assert set(preset_names()) == {*FIRST, *AS_DATA}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_where_it_is_from_and_what_it_leaves_open(name: str) -> None:
    """Every fact has key, value and source; the unknown is said; no secret stands in the package."""
    found = preset(name)
    assert found.title
    assert found.about
    assert found.unknown
    assert found.facts
    assert all(set(fact) == {"key", "value", "source"} and all(fact.values()) for fact in found.facts)
    assert "${" not in yaml.safe_dump(found.platform), "references belong to who uses it"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_a_platform_once_its_needs_are_supplied(name: str) -> None:
    """With a value for each need the configuration is accepted, and the preset's settings are the ones in force."""
    config = compiled(supplied(preset(name)))
    assert config.platforms["a"].preset == name
    origins = {setting.origin for setting in effective(config)}
    assert f"preset {name}, config.yaml:{_line(config)}" in origins


def _line(config: Config) -> int:
    return config.origin.marks["platforms", "a", "preset"].key_line


@pytest.mark.parametrize("name", preset_names())
def test_each_need_is_asked_for(name: str) -> None:
    """Without any of them each is named, at the preset's place, once and with what it is."""
    with pytest.raises(ConfigInvalid) as caught:
        compiled({"preset": name})
    said = [problem for problem in caught.value.problems if problem.code == "E011"]
    assert sorted(problem.message.split("'")[1] for problem in said) == sorted(need.key for need in preset(name).needs)
    assert all(f"the preset {name} leaves it to you" in problem.message for problem in said)


def test_the_platform_wins_over_the_preset_and_the_preset_over_defaults(tmp_path: Path) -> None:
    """Values come from the nearest that says something; mappings are merged; each says where it is from."""
    config = loaded(
        tmp_path,
        "version: 1\n"
        "defaults: {compress: zstd, concurrency: 9, timeout: 3s, batch: {linger: 1s}}\n"
        "platforms:\n"
        "  a:\n"
        "    preset: shopify\n"
        "    url: https://a.example/\n"
        "    headers: {X-Shopify-Access-Token: t}\n"
        "    rate: 4/s\n"
        "    timeout: 7s\n",
    )
    platform = config.platforms["a"]
    assert ([str(rate) for rate in platform.rate], platform.timeout, platform.concurrency) == (["4/s"], 7.0, 9)
    assert (platform.compress, platform.batch.linger) == ("none", 1.0)
    origins = {setting.path[2:]: setting.origin.replace(str(tmp_path), "") for setting in effective(config)}
    assert origins["rate",] == "/config.yaml:8"
    assert origins["compress",] == "preset shopify, /config.yaml:5"
    assert origins["envelope",] == "preset shopify, /config.yaml:5"
    assert origins["concurrency",] == "defaults, /config.yaml:2"


def test_a_preset_can_be_the_default(tmp_path: Path) -> None:
    """Named under defaults it holds for every platform that names none, and is still above the defaults' own keys."""
    config = loaded(
        tmp_path,
        "version: 1\n"
        "defaults: {preset: shopify, rate: 9/s, headers: {X-Shopify-Access-Token: t}}\n"
        "platforms: {a: {url: https://a.example/}}\n",
    )
    assert [str(rate) for rate in config.platforms["a"].rate] == ["2/s"]
    origin = next(setting.origin for setting in effective(config) if setting.path[2:] == ("rate",))
    assert origin.endswith("config.yaml:2")
    assert origin.startswith("preset shopify, ")


def test_an_unknown_preset_says_what_was_meant(tmp_path: Path) -> None:
    """A slip of the pen is one problem, at its value, with the name there is."""
    text = "version: 1\nplatforms:\n  a:\n    url: https://a.example/\n    preset: shopfy\n"
    (problem,) = problems(tmp_path, text)
    assert (problem.line, problem.col, problem.code) == (5, 13, "E015")
    assert problem.hint == "did you mean 'shopify'?"


def test_a_contradiction_with_a_preset_is_shown_where_the_preset_is_named(tmp_path: Path) -> None:
    """What is wrong only together with a preset's value stands at the platform's own key or at `preset`."""
    text = (
        "version: 1\nplatforms:\n  a:\n    preset: shopify\n    url: https://a.example/\n"
        "    headers: {X-Shopify-Access-Token: t}\n    burst: 5\n"
    )
    (problem,) = problems(tmp_path, text)
    assert (problem.line, problem.code) == (7, "E051")
    assert "2/s" in problem.message


def test_another_form_has_needs_of_its_own(tmp_path: Path) -> None:
    """Where the platform authorises itself in another way, what the preset's way needed is not asked for."""
    found = preset("youzan")
    assert [need.key for need in found.missing({"preset": "youzan"})] == ["auth.token"]
    assert not list(found.missing({"auth": {"kind": "oauth2"}}))
    assert not list(found.missing({"auth": {"use": "shop"}}))
    assert not list(found.missing({"auth": {"kind": "query", "token": "t"}}))


def test_the_command_lists_and_shows() -> None:
    """A line for each, and where more is said; one in full with its sources; a mistyped name is guessed."""
    listed = [line for line in CliRunner().invoke(presets).output.splitlines() if line.startswith(preset_names())]
    assert len(listed) == len(preset_names())
    assert next(line for line in listed if line.startswith("shopify ")).endswith("2/s")
    assert "headers.X-Shopify-Access-Token" in CliRunner().invoke(presets, ["show", "shopify"]).output
    shown = CliRunner().invoke(presets, ["show", "woocommerce-batch"]).output
    assert yaml.safe_load(shown)["platform"]["batch"] == {"max_items": 100}
    assert "source: github.com/woocommerce/woocommerce issue 22848" in shown
    wrong = CliRunner().invoke(presets, ["show", "wechat"])
    assert wrong.exit_code == 2
    assert "did you mean 'wechat-shipping'?" in wrong.output


def _said(name: str, body: object, status: int = 200) -> Outcome:
    """Return what the preset makes of an answer about one callback."""
    terms = compile_terms("a", compiled(supplied(preset(name))).platforms["a"])
    answer = Answer(status, Headers(), json.dumps(body).encode())
    return classify(answer, rules=terms.rules, compressed=False, items=1, wall=0.0).outcome


TOP, PDD, GW = "error_response", "error_response", "gw_err_resp"
ABOUT_THE_PLATFORM = {
    "clock": {
        "taobao-logistics": [{TOP: {"code": code}} for code in (30, 31, "31")],
        "jd": [{TOP: {"code": code}} for code in (7, "8")],
        "pinduoduo-logistics": [{PDD: {"error_code": 10001, "error_msg": "timestamp"}}],
        "doudian-logistics": [
            {"code": 40003, "sub_code": f"isv.timestamp-{what}"} for what in ("invalid", "format-error")
        ],
    },
    "auth": {
        "taobao-logistics": [{TOP: {"code": code}} for code in (9, *range(11, 14), *range(21, 30), 32, 33, 34, 42)],
        "wechat-shipping": [
            {"errcode": code} for code in (40001, 40013, 40014, 40164, 41001, 42001, 43003, 48001, 50002, 61004)
        ],
        "jd": [{TOP: {"code": code}} for code in (4, 5, 11, 12, 14, 15, 19, 21, 24)],
        "pinduoduo-logistics": [{PDD: {"error_code": code}} for code in (10016, 10019, 20004, 20005, 20032, 70034)],
        "youzan": [{GW: {"err_code": code}} for code in (4001, 4005, 4007, 4201, 4202, 4203, 4204)],
        "doudian-logistics": [
            {"code": 30002},
            {"code": 40001, "sub_code": "isv.signature-missing"},
            *({"code": 40003, "sub_code": f"isv.{what}"} for what in ("signature-invalid", "access-token-expired")),
            {"code": 40003, "sub_code": "isv.access-token-no-existed"},
            {"code": 30001, "sub_code": "dop.authorization-closed"},
        ],
    },
    "retry": {
        "taobao-logistics": [{TOP: {"code": 10}}, {TOP: {"code": 520, "sub_code": "isp.x"}}],
        "wechat-shipping": [{"errcode": -1}],
        "jd": [{TOP: {"code": code}} for code in (33, 65)],
        "pinduoduo-logistics": [{PDD: {"error_code": code}} for code in (50000, 50002, 52001, 52002, 70033)],
        "youzan": [{GW: {"err_code": code}} for code in (5001, 5003)],
        "doudian-logistics": [{"code": code} for code in (20000, 20001, 90000)],
    },
    "throttled": {
        "taobao-logistics": [{TOP: {"code": code}} for code in range(4, 9)],
        "wechat-shipping": [{"errcode": code} for code in (44990, 45009, 45011)],
        "jd": [{TOP: {"code": 2}}],
        "pinduoduo-logistics": [{PDD: {"error_code": code}} for code in (52101, 52102, 52103, 70031, 70036)],
        "youzan": [{GW: {"err_code": 4101}}, {"code": 500100004}, {"code": 123000042}],
        "doudian-logistics": [{"code": 60000}],
    },
}
ABOUT_THE_ORDER = {
    "taobao-logistics": [{TOP: {"code": 40}}, {TOP: {"code": 15, "sub_code": "isv.logistics:P04"}}],
    "wechat-shipping": [{"errcode": 47001}, {"errcode": 10060004}],
    "pinduoduo-logistics": [{PDD: {"error_code": code}} for code in (10000, 21001, 50001)],
    "youzan": [{"code": 102570020}, {GW: {"err_code": 5002}}],
    "doudian-logistics": [{"code": 40004}, {"code": 40003, "sub_code": "isv.parameter-format-invalid"}],
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in ABOUT_THE_PLATFORM.items() for name in names]
)
def test_what_is_not_about_an_order_buries_none(kind: str, name: str) -> None:
    """Clocks and logins stop the platform, outages are tried again, limits throttle: no order is a dead letter."""
    wanted = Outcome.AUTH if kind == "clock" else Outcome(kind)
    for body in ABOUT_THE_PLATFORM[kind][name]:
        assert _said(name, body) is wanted, body


@pytest.mark.parametrize("name", ABOUT_THE_ORDER)
def test_what_is_about_an_order_is_told_to_a_person(name: str) -> None:
    """Fields of the order and its state do not stop everybody else's."""
    for body in ABOUT_THE_ORDER[name]:
        assert _said(name, body) is Outcome.REJECT, body


def test_what_http_says_of_the_receiver() -> None:
    """A receiver that is gone, a shop that is frozen or locked: not one callback's fault."""
    for name in ("standard-webhooks", "cloudevents"):
        assert (_said(name, {}, 204), _said(name, {}, 410)) == (Outcome.OK, Outcome.AUTH)
    assert [_said("shopify", {}, status) for status in (201, 402, 423, 430, 422)] == [
        *(Outcome.OK, Outcome.AUTH, Outcome.AUTH, Outcome.THROTTLED, Outcome.REJECT),
    ]
