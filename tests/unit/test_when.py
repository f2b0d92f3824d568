"""Sending hours and coalescing that waits: the hours themselves, and what of the configuration cannot work."""

from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from relay.delivery.terms import compile_all
from relay.policy.hours import SendingHours
from tests.unit.config_files import loaded, platform

SHANGHAI = ZoneInfo("Asia/Shanghai")


def at(text: str) -> float:
    """Return a UTC time as seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("hours", "now", "closed"),
    [
        (SendingHours(time(8), time(22), SHANGHAI), "2026-11-29T00:00:00", timedelta()),  # 08:00 there
        (SendingHours(time(8), time(22), SHANGHAI), "2026-11-29T13:59:59", timedelta()),
        (SendingHours(time(8), time(22), SHANGHAI), "2026-11-29T14:00:00", timedelta(hours=10)),
        (SendingHours(time(8), time(22), SHANGHAI), "2026-11-28T23:59:59", timedelta(seconds=1)),
        (SendingHours(time(22), time(6), UTC), "2026-11-29T23:00:00", timedelta()),
        (SendingHours(time(22), time(6), UTC), "2026-11-29T05:59:00", timedelta()),
        (SendingHours(time(22), time(6), UTC), "2026-11-29T06:00:00", timedelta(hours=16)),
        (SendingHours(time(0), time(12), timezone(timedelta(hours=-3))), "2026-11-29T15:00:00", timedelta(hours=12)),
        # the night in which the clocks there go back: an hour more
        (SendingHours(time(8), time(22), ZoneInfo("Europe/Berlin")), "2026-10-24T20:00:00", timedelta(hours=11)),
    ],
)
def test_hours_are_those_of_their_zone(hours: SendingHours, now: str, closed: timedelta) -> None:
    """Open from the first to before the last, over midnight too; closed, until they begin again."""
    assert hours.closed_s(at(now)) == closed.total_seconds()


def test_hours_open_when_they_say(tmp_path: Path) -> None:
    """Whatever the moment: after the wait that they tell it is open, and just before it is not."""
    for zone in ("Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu"):
        hours = SendingHours(time(7, 30), time(7, 45), ZoneInfo(zone))
        for step in range(0, 400 * 24, 7):
            wall = at("2026-01-01T00:00:00") + step * 3600.0
            closed_s = hours.closed_s(wall)
            assert hours.closed_s(wall + closed_s) == 0.0
            assert closed_s == 0.0 or hours.closed_s(wall + closed_s - 1) == 1.0


def test_both_are_read(tmp_path: Path) -> None:
    """A word or a mapping; without them any time will do and nothing waits."""
    text = """version: 1
platforms:
  a:
    url: https://a.example/
    coalesce: {mode: latest, quiet: 5s, max: 30s}
    send: {between: ["08:00", "22:00"], tz: "+08:00"}
  b: {url: https://b.example/, coalesce: latest}
  c: {url: https://c.example/, coalesce: none}
"""
    config = loaded(tmp_path, text)
    terms = {each.platform: each for each in compile_all(config)}
    rules = config.store_rules().platforms
    assert (rules["a"].coalesce, rules["a"].quiet_s, rules["a"].gather_s) == (True, 5.0, 30.0)
    assert (rules["b"].coalesce, rules["b"].quiet_s, rules["b"].gather_s) == (True, 0.0, 0.0)
    assert not rules["c"].coalesce
    assert str(terms["a"].hours) == "08:00 to 22:00 UTC+08:00"
    assert (terms["a"].gather_s, terms["b"].gather_s, terms["b"].hours) == (30.0, 0.0, None)


@pytest.mark.parametrize(
    ("written", "code", "about"),
    [
        ("coalesce: {mode: latest, quiet: 30s, max: 30s}", "E051", "max is not longer than quiet"),
        ("coalesce: {mode: latest, quiet: 5m}", "E051", "max is not longer than quiet"),
        ("coalesce: {mode: none, quiet: 5s}", "E051", "quiet waits for newer ones"),
        ("coalesce: {quiet: 5s}", "E011", "'mode' is missing"),
        ("coalesce: newest", "E015", "choices are none, latest"),
        ("coalesce: on", "E015", "did you mean 'latest'?"),
        ('send: {between: ["08:00", "08:00"]}', "E051", "it never opens"),
        ('send: {between: ["08:00", "25:00"]}', "E031", "is not a time of day"),
        ('send: {between: ["08:00"]}', "E031", "a list is not a pair of times"),
        ('send: {between: ["08:00", "24:00"]}', "E031", 'write "00:00" for midnight'),
        ("send: {between: [八点, 22点]}", "E031", "'八点' and '22点' are not times of day"),
        ('send: {between: ["08:00", "22:00"], tz: Asia/Peking}', "E031", "did you mean 'Asia/Shanghai'?"),
        ('send: {between: ["08:00", "22:00"], tz: UTC+8}', "E031", "did you mean '+08:00'?"),
        ('send: {between: ["08:00", "22:00"], tz: "-0530"}', "E031", "did you mean '-05:30'?"),
        ('send: {between: ["08:00", "22:00"], tz: America/New_Yrok}', "E031", "did you mean 'America/New_York'?"),
        ('send: {between: ["08:00", "22:00"], tz: Aisa/Shanghai}', "E031", "did you mean 'Asia/Shanghai'?"),
        ('send: {between: ["08:00", "22:00"], tz: CST}', "E031", "write a name such as Asia/Shanghai"),
        ("expires: 10s\ncoalesce: {mode: latest, quiet: 5s, max: 30s}", "E051", "callbacks wait 30s to be sent"),
    ],
)
def test_pairs_that_cannot_work_are_refused(tmp_path: Path, written: str, code: str, about: str) -> None:
    """Each where it is written, with what would work."""
    (found,) = platform(tmp_path, written)
    assert (found.code, about in f"{found.message} {found.hint}") == (code, True), str(found)


def test_lives_that_end_before_the_morning_are_worth_a_word(tmp_path: Path) -> None:
    """What is posted just after closing would expire before it may go."""
    text = 'version: 1\nplatforms: {a: {url: https://a.example/, expires: 9h, send: {between: ["08:00", "22:00"]}}}\n'
    (warning,) = loaded(tmp_path, text).warnings
    assert warning.code == "W013"
    assert "closed for 10h" in warning.message
    assert loaded(tmp_path, text.replace("9h", "11h")).warnings == ()
