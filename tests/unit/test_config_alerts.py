"""The section ``alerts`` of the configuration: the contract's example, defaults, and what is refused."""

from pathlib import Path

import pytest
from relay.config.effective import as_tree, effective
from relay.config.schema.alerts import RULE_NAMES
from relay.delivery.terms import compile_targets
from tests.unit.config_files import MINIMAL, codes, loaded, problems

EXAMPLE = """
alerts:
  targets:
    ops:    {kind: dingtalk, url: "${env:DING_URL}", secret: "${env:DING_SECRET}", lang: zh-CN}
    oncall: {kind: alertmanager, url: "http://127.0.0.1:9093"}
    hook:   {kind: webhook, url: "https://hook.example/x", sign: {kind: standard-webhooks, secret: "${env:WHSEC}"}}
  rules:
    late:          {oldest_due: 5m, to: [ops, oncall], repeat: 1h}
    dead-letters:  {above: 0, to: [ops], digest: 10m}
    held: off
  default_to: [ops]
  quiet: {from: "23:00", to: "07:00", tz: Asia/Shanghai, except: [late, store-failed]}
"""
ENVIRON = {
    "DING_URL": "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef",
    "DING_SECRET": "SECa1b2c3d4",
    "WHSEC": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}


def test_the_contracts_example_is_read(tmp_path: Path) -> None:
    """Targets become platforms; a rule without ``to`` goes to ``default_to``; one that is off is gone."""
    config = loaded(tmp_path, MINIMAL + EXAMPLE, ENVIRON)
    alerts = config.alerts
    terms = {each.platform: each for each in compile_targets(config)}
    assert terms["oncall"].url == "http://127.0.0.1:9093/api/v2/alerts"
    assert terms["ops"].signer is not None
    assert [str(rate) for rate in alerts.targets["ops"].platform.rate] == ["18/min"]
    assert alerts.receivers("late") == ("ops", "oncall")
    assert alerts.receivers("broken") == ("ops",)
    assert "held" not in alerts.rules.by_name()
    assert alerts.rules.by_name()["late"].repeat == 3600.0


def test_without_the_section_the_rules_hold_and_nobody_is_told(tmp_path: Path) -> None:
    """The built-in rules need no line; there is nobody to tell."""
    alerts = loaded(tmp_path, MINIMAL).alerts
    assert tuple(alerts.rules.by_name()) == RULE_NAMES
    assert alerts.receivers("late") == ()


def test_rules_that_name_nobody_go_to_all_targets(tmp_path: Path) -> None:
    """Without ``default_to`` everybody is told: an alert that nobody gets is the worst default."""
    config = loaded(tmp_path, MINIMAL + EXAMPLE.replace("  default_to: [ops]\n", ""), ENVIRON)
    assert config.alerts.receivers("broken") == ("ops", "oncall", "hook")


def test_secrets_of_targets_are_not_shown(tmp_path: Path) -> None:
    """Neither in the configuration as shown nor in what is kept of an answer."""
    text = EXAMPLE
    for name, value in ENVIRON.items():
        text = text.replace(f"${{env:{name}}}", value)
    config = loaded(tmp_path, MINIMAL + text)
    shown = str(as_tree(effective(config))["alerts"])
    assert not any(secret in shown for secret in ("0123456789abcdef", "SECa1b2c3d4", "MfKQ9r8G"))
    assert {"0123456789abcdef", "SECa1b2c3d4"} <= config.secrets_of_target("ops")


@pytest.mark.parametrize(
    ("section", "code", "hint"),
    [
        ("{default_to: [opps], targets: {ops: {kind: wecom, url: 'https://a/'}}}", "E070", "did you mean 'ops'?"),
        ("{}\naudit: {head_to: ops}", "E070", "add it under `alerts.targets:`"),
        ("{rules: {late: {to: [ops]}}}", "E070", "add it under `alerts.targets:`"),
        ("{quiet: {from: '23:00', to: '07:00', except: [latee]}}", "E071", "did you mean 'late'?"),
        ("{quiet: {from: '25:00', to: '07:00'}}", "E031", 'write "23:00"'),
        ("{quiet: {from: '23:00', to: '07:00', tz: Mars/Base}}", "E031", "write a name such as Asia/Shanghai"),
        ("{rules: {lates: {}}}", "E010", "did you mean 'late'?"),
        ("{rules: {late: {repeat: 60}}}", "E021", "60s"),
        ("{rules: {late: false}}", "E015", "write off"),
        ("{targets: {ops: {kind: dingtalkk, url: 'https://a/'}}}", "E015", "did you mean 'dingtalk'?"),
        (
            "{targets: {ops: {kind: wecom, url: 'https://a/', connect: {ca: gone.pem}}}}",
            "E034",
            "readable by the relay",
        ),
        ("{targets: {ops: {kind: webhook, url: 'https://a/', preset: jd}}}", "E051", "relay presets show NAME"),
        ("{targets: {ops: {kind: alertmanager, url: 'https://a/', auth: {use: am}}}}", "E055", "credentials"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, section: str, code: str, hint: str) -> None:
    """Each with its code and what to do."""
    found = problems(tmp_path, f"{MINIMAL}alerts: {section}\n")
    assert [problem.code for problem in found] == [code]
    assert hint in found[0].hint


def test_a_credential_of_a_target_is_used(tmp_path: Path) -> None:
    """No warning that nobody uses it, and its token is what the target is authorised with."""
    text = MINIMAL + "credentials: {am: {kind: bearer, token: '${env:T}'}}\nalerts: {targets: {am: "
    config = loaded(
        tmp_path, text + "{kind: alertmanager, url: 'https://a/', auth: {use: am}}}}\n", {"T": "t0k3nt0k3n"}
    )
    assert [warning.code for warning in config.warnings] == []
    assert [each.credential for each in compile_targets(config)] == ["am"]


@pytest.mark.parametrize(
    ("url", "warned"), [("http://robot.example/x", ["W004"]), ("https://robot.example/x", []), ("http://[::1]/x", [])]
)
def test_a_robots_address_in_the_clear_is_warned_of(tmp_path: Path, url: str, warned: list[str]) -> None:
    """Whoever reads it can write to the group."""
    config = loaded(tmp_path, MINIMAL + f"alerts: {{targets: {{ops: {{kind: wecom, url: '{url}'}}}}}}\n")
    assert [warning.code for warning in config.warnings] == warned


def test_a_mistake_in_a_target_does_not_hide_others(tmp_path: Path) -> None:
    """All at once, each at its place."""
    text = MINIMAL + "alerts:\n  targets:\n    ops: {kind: wecom}\n  default_to: [nobody]\n"
    assert [code for _, _, code in codes(tmp_path, text)] == ["E011", "E070"]
