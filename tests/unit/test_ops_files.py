"""What docs/ops names exists: metrics, labels and commands. The alerts fire when they should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from relay.telemetry.metrics import Metrics
from relay.telemetry.ownership_figures import OwnershipFigures
from relay.views.ledger import QueueTotals
from relay.views.live import LiveFacts
from relay.views.past.objective import ObjectiveView
from relay.views.queue import HistorySize, QueueFacts, QuotaUse, StoreSize
from tests.installed import installed
from tests.unit.test_docs import problem

OPS = Path(__file__).parents[2] / "docs" / "ops"
RULES = OPS / "prometheus-rules.yaml"

SELECTOR = re.compile(r"\b(relay_\w+|up)\b(?:\{([^}]*)\})?")
"""A metric in an expression, and what stands in its braces."""
GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The labels of every series that a relay with something of everything shows, by name."""
    metrics = Metrics()
    metrics.requests["a", "ok", "2xx"] += 1
    metrics.retries["a", "timeout"] += 1
    metrics.dead["a", "reject"] += 1
    metrics.refused["ingest", "overloaded"] += 1
    metrics.batch_bytes["a", "wire"] += 1
    metrics.limits_learned["a"] += 1
    metrics.token_failures["app"] += 1
    metrics.alerts_sent["ops", "failed"] += 1
    metrics.certificates["a"] = {"server": 1.0}
    metrics.alerts_firing = lambda: {"late": 1}
    metrics.reload_successful = 1
    metrics.descriptors = (1, 2)
    metrics.ownership = OwnershipFigures(lambda: {"a": 1.0}, lambda: 0, lambda: HistorySize(1, 4096), lambda: 0)
    metrics.ownership.takeovers["free"] += 1
    metrics.expires_s = {"a": 60.0}
    metrics.objectives = {
        "a": ObjectiveView(
            within_seconds=90.0,
            share=0.99,
            ratio_1h=0.97,
            ratio_24h=1.0,
            remaining_1h=0.0,
            remaining_24h=1.0,
            burns=3.0,
            overdue=0,
        )
    }
    metrics.snapshot(
        totals={"a": QueueTotals(accepted=1, pending=1)},
        statuses={"a": QueueFacts(pending=1, quotas=[QuotaUse("a", window_s=60.0, limit=100, used=10)])},
        size=StoreSize(0, max_bytes=0, usable_bytes=0, full=False),
        live={"a": LiveFacts()},
        now=0.0,
    )
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[dict[str, Any]]:
    """The alerts of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def expressions(node: Any) -> Iterator[str]:
    """Yield what Prometheus is asked, anywhere in the dashboard."""
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        yield from (value for key, value in node.items() if key == "definition")
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from expressions(child)


def unknown(expression: str, known: dict[str, set[str]]) -> list[str]:
    """Return the metrics and labels of an expression that no relay shows."""
    wrong = []
    anywhere = set().union(*known.values()) | SCRAPED | {"le"}
    for name, braces in SELECTOR.findall(expression):
        labels = set(re.findall(r"(\w+)\s*[=!]", braces))
        wrong += [name] if name not in known else [f"{name}.{one}" for one in labels - known[name] - SCRAPED]
    wrong += [one for group in GROUPED.findall(expression) for one in re.findall(r"\w+", group) if one not in anywhere]
    return wrong


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_names_what_exists(rule: dict[str, Any], known: dict[str, set[str]]) -> None:
    """Its metrics and labels are the relay's, and its runbook begins with a command that works."""
    told = rule["annotations"]
    commands = [one for one in re.sub(r"\{\{.*?\}\}", "shop-a", told["runbook"]).split("; ") if one.startswith("relay")]

    assert unknown(rule["expr"], known) == []
    assert set(told) == {"summary", "description", "runbook"}
    assert [wrong for one in commands if (wrong := problem(one))] == []
    assert commands or told["runbook"].startswith(("systemctl ", "journalctl "))
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_dashboard_names_what_exists(known: dict[str, set[str]]) -> None:
    """Metrics and labels of every panel are the relay's, and a row is repeated for each platform."""
    board = json.loads((OPS / "grafana.json").read_text("utf-8"))
    asked = list(expressions(board))
    ids = [panel["id"] for panel in board["panels"]]

    assert [wrong for one in asked for wrong in unknown(one, known)] == []
    assert [panel["repeat"] for panel in board["panels"] if "repeat" in panel] == ["platform"]
    assert len(ids) == len(set(ids)) > 15
    assert len(asked) > 20


@pytest.mark.parametrize(
    "wrong", ["relay_gone > 0", 'relay_pending{plattform="a"}', "sum by (plattform) (relay_pending)"]
)
def test_an_unknown_name_is_noticed(wrong: str, known: dict[str, set[str]]) -> None:
    """A metric, a label in braces and a label to group by that no relay has."""
    assert unknown(wrong, known) != []


FIRES: dict[str, list[str]] = {
    "RelayDown": ['up{job="relay"} 0x90'],
    "StoreFailed": ['relay_refused_total{listener="ingest",code="store_failed"} 0+5x90'],
    "StoreRefuses": ["relay_store_full 1x90"],
    "StoreFull": ["relay_store_used_bytes 81x90", "relay_store_max_bytes 100x90"],
    "Objective": ['relay_objective_ratio{platform="a"} 0.97x90', 'relay_objective_target_ratio{platform="a"} 0.99x90'],
    "Unaccounted": ["relay_unaccounted -1x90"],
    "PostsRefused": ['relay_refused_total{listener="ingest",code="overloaded"} 0+5x90'],
    "Restarts": ["relay_process_start_time_seconds 0x80 100 200 300x10"],
    "ReloadFailed": ["relay_config_last_reload_successful 0x90"],
    "DescriptorsLow": ["relay_process_open_fds 91x90", "relay_process_max_fds 100x90"],
    "AcceptorsEnd": ["relay_ingest_processes_ended_total 0+1x90"],
    "TokenFailures": ['relay_token_failures_total{credential="app"} 0+1x90'],
    "ConfigMismatch": ["relay_config_mismatch 1x90"],
    "NoOwner": ['relay_owner{platform="a",instance="x"} 0x90', 'relay_owner{platform="a",instance="y"} 0x90'],
    "Certificate": ['relay_certificate_ends_timestamp_seconds{platform="a",whose="server"} 1209600x90'],
    "Broken": ['relay_breaker_open{platform="a"} 1x90'],
    "Paused": ['relay_paused{platform="a"} 1x90', 'relay_pending{platform="a"} 3x90'],
    "OldestDue": ['relay_oldest_due_age_seconds{platform="a"} 301x90', 'relay_paused{platform="a"} 0x90'],
    "BacklogExpires": [
        'relay_pending{platform="a"} 7201x90',
        'relay_callbacks_total{platform="a",result="delivered"} 0+60x90',
        'relay_expires_seconds{platform="a"} 7200x90',
    ],
    "Expired": ['relay_callbacks_total{platform="a",result="expired"} 0x85 1x5'],
    "DeadLetters": ['relay_dead_letters_total{platform="a",reason="reject"} _x85 1x5'],
    "Held": ['relay_held{platform="a"} 1x90'],
    "LimitLearned": ['relay_limits_learned_total{platform="a"} _x85 1x5'],
    "AlertsNotSent": ['relay_alerts_sent_total{target="ops",result="failed"} _x85 1x5'],
}
"""For each alert, series of 90 minutes at whose end it fires."""

QUIET = [
    'up{job="relay"} 1x90',
    "relay_store_full 0x90",
    "relay_store_used_bytes 79x90",
    "relay_store_max_bytes 100x90",
    "relay_unaccounted 0x90",
    'relay_objective_ratio{platform="a"} 0.985x90',
    'relay_objective_target_ratio{platform="a"} 0.99x90',
    "relay_process_start_time_seconds 100x80 200x10",
    'relay_refused_total{listener="ingest",code="overloaded"} 7x90',
    "relay_config_last_reload_successful 1x90",
    'relay_token_failures_total{credential="app"} 3x90',
    "relay_ingest_processes_ended_total 0x80 2x10",
    'relay_breaker_open{platform="a"} 0x90',
    'relay_paused{platform="a"} 0x90',
    'relay_pending{platform="a"} 7199x90',
    'relay_oldest_due_age_seconds{platform="a"} 299x90',
    'relay_expires_seconds{platform="a"} 7200x90',
    'relay_callbacks_total{platform="a",result="delivered"} 0+60x90',
    'relay_dead_letters_total{platform="a",reason="reject"} 4x90',
    'relay_dead_letters_total{platform="a",reason="dropped"} 0+1x90',
    'relay_held{platform="a"} 0x90',
    "relay_config_mismatch 0x90",
    'relay_owner{platform="a",instance="x"} 0x90',
    'relay_owner{platform="a",instance="y"} 1x90',
    'relay_certificate_ends_timestamp_seconds{platform="a",whose="server"} 1300000x90',
]
"""A relay that has had its troubles and has none now."""


def test_the_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """By promtool: each fires on the series made for it, and none on a relay that is well."""
    promtool = installed("promtool", package="prometheus")
    tests = []
    for name, series in {**FIRES, "": QUIET}.items():
        firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})' if name else "count(ALERTS)"
        expected = [{"labels": "{}", "value": 1}] if name else []
        tests.append(
            {
                "name": name or "a relay that is well",
                "interval": "1m",
                "input_series": [{"series": one.split(" ", 1)[0], "values": one.split(" ", 1)[1]} for one in series],
                "promql_expr_test": [{"expr": firing, "eval_time": "90m", "exp_samples": expected}],
            }
        )
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "3m", "tests": tests}))

    checked = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True)
    tried = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert set(FIRES) == {rule["alert"] for rule in rules()}
