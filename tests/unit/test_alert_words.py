"""What alerts say: in both languages, whole or as a digest, in the form of each target."""

import json
from typing import Any

import pytest
from relay.alerts.shapes import Told, as_text, bodies
from relay.alerts.words import Sentences, sentences, span
from relay.config.schema.alerts import RULE_NAMES, AlertSettings

WALL = 1_790_000_000.0
VALUES: dict[str, int | float | str] = {
    "age_s": 551.0, "pending": 12020, "state": "limited", "expires_s": 86400.0, "dead": 7, "group": "exhausted",
    "held": 2, "unopened": 1, "adopt": "rate: 100/min",
    "percent": 81, "left_s": 7200.0, "free_bytes": 2**20, "problems": 2,
    "step_s": 3600.0, "direction": "+", "unaccounted": 1, "what": "gone", "whose": "server",
    "en": "3 orders differ", "zh": "3 单不一致", "verify": " --verify RUN",
    "within_s": 90.0, "ratio": "97.3 %", "share": "99 %", "remaining": "40 %",
}  # fmt: skip


def target(**settings: Any) -> Any:
    """Return a target with these settings."""
    return AlertSettings.model_validate({"targets": {"t": {"url": "https://robot.example/x", **settings}}}).targets["t"]


def told(platform: str = "shop-a", status: Any = "firing", rule: str = "late", language: Any = "en") -> Told:
    """Return news worded for a target."""
    said = sentences(rule, platform, VALUES, 10, language)
    return Told(rule, status, platform, "", WALL, WALL + 60 if status == "resolved" else None, said)


@pytest.mark.parametrize("rule", [*RULE_NAMES, "drill"])
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_every_rule_has_words_in_every_language(rule: str, language: Any) -> None:
    """Three sentences each, with nothing left to fill in; the command begins with a program there is."""
    said = sentences(rule, "shop-a", VALUES, 10, language)
    assert all(said)
    assert "{" not in "".join(said)
    assert said.todo.split()[0] in ("relay", "timedatectl")


@pytest.mark.parametrize(
    ("rule", "count", "summary"),
    [
        ("held", 1, "shop-a holds 1 callback for a person"),
        ("held", 1200, "shop-a holds 1,200 callbacks for a person"),
        ("sealed", 1, "shop-a has 1 sealed callback that does not open"),
        ("unaccounted", 1, "The ledger does not add up: 1 callback is unaccounted for"),
    ],
)
def test_one_is_told_as_one(rule: str, count: int, summary: str) -> None:
    """A number has its noun and verb."""
    name = {"sealed": "unopened"}.get(rule, rule)
    assert sentences(rule, "shop-a", {name: count}, 0, "en").summary == summary


def test_chinese_is_chinese() -> None:
    """An alert in zh-CN names the platform and says the rest in Chinese."""
    title, text = as_text([told(language="zh-CN")], "zh-CN", host="edge-1")
    assert title == "[告警] shop-a 延迟：最早的回调已到期 9m11s，最近一分钟什么都没有送达"
    assert "→ relay status" in text
    assert "edge-1" in text
    assert as_text([told(status="resolved", language="zh-CN")], "zh-CN", host="")[0].startswith("[已恢复] ")


def test_one_message_says_what_since_when_for_whom_and_what_next() -> None:
    """Title, time, meaning, command and host, in this order."""
    title, text = as_text([told()], "en", host="edge-1")
    lines = text.split("\n")
    assert title.startswith("[ALERT] shop-a is late")
    assert lines[0].startswith("since 2026-09-21 ")
    assert lines[1:] == [
        "Buyers and shops at shop-a see states from 9m11s ago; 12,020 callbacks wait (state: limited).",
        "→ relay status",
        "edge-1",
    ]


def test_a_digest_names_every_platform_or_how_many_more() -> None:
    """Five are named; of five hundred as many as there is room for, and the number of the rest."""
    _, few = as_text([told(f"shop-{number}") for number in range(5)], "en", host="h")
    assert few.split("\n")[0] == "shop-0, shop-1, shop-2, shop-3, shop-4"
    title, many = as_text([told(f"shop-{number:03}") for number in range(500)], "zh-CN", host="h")
    named = many.split("\n")[0]
    assert title == "[告警] 500 条告警"
    shown = named.partition(" 等")[0].count(",") + 1
    assert named.endswith(f"等，另有 {500 - shown} 个")


def test_a_text_fits_into_a_robots_message() -> None:
    """WeCom takes 2048 bytes; a digest of hundreds in Chinese keeps within them and is still a text."""
    news = [told(f"platform-with-a-long-name-{number}", language="zh-CN") for number in range(300)]
    (body,) = bodies(target(kind="wecom"), news, host="edge-1", wall=WALL)
    assert len(json.loads(body)["text"]["content"].encode()) <= 2048


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"kind": "dingtalk"}, ("text", "content")),
        ({"kind": "wecom"}, ("text", "content")),
        ({"kind": "feishu"}, ("content", "text")),
    ],
)
def test_robots_get_one_text_for_all(settings: dict[str, str], place: tuple[str, str]) -> None:
    """A message of their own form, whatever the number of alerts."""
    (body,) = bodies(target(**settings, lang="en"), [told("a"), told("b")], host="h", wall=WALL)
    read = json.loads(body)
    assert read.get("msgtype", read.get("msg_type")) == "text"
    assert read[place[0]][place[1]].startswith("[ALERT] 2 alerts\na, b")


def test_a_webhook_gets_each_alert_as_json() -> None:
    """The keys of the contract, with times as instants."""
    first, second = bodies(target(kind="webhook"), [told(), told(status="resolved")], host="edge-1", wall=WALL)
    read = json.loads(first)
    assert list(read) == ["rule", "status", "platform", "since", "until", "summary", "meaning", "todo", "labels"]
    assert (read["rule"], read["status"], read["platform"], read["until"]) == ("late", "firing", "shop-a", None)
    assert read["since"] == "2026-09-21T14:13:20.000Z"
    assert read["labels"] == {"host": "edge-1"}
    assert json.loads(second)["until"] == "2026-09-21T14:14:20.000Z"


def test_alertmanager_gets_labels_that_stay_and_an_end() -> None:
    """The same alert has the same labels; one that fires ends in five minutes unless told again."""
    firing, ended = bodies(target(kind="alertmanager"), [told(), told(status="resolved")], host="h", wall=WALL + 90)
    one, two = json.loads(firing), json.loads(ended)
    assert one["labels"] == two["labels"] == {"alertname": "relay-late", "platform": "shop-a", "host": "h"}
    assert one["endsAt"] == "2026-09-21T14:19:50.000Z"
    assert two["endsAt"] == "2026-09-21T14:14:20.000Z"
    assert set(one["annotations"]) == {"summary", "description", "todo"}


def test_spans() -> None:
    """Two units at most."""
    assert [span(seconds) for seconds in (0, 45, 551, 11100, 172800)] == ["0s", "45s", "9m11s", "3h05m", "2d"]
    assert isinstance(sentences("drill", "", {}, 0, "en"), Sentences)
