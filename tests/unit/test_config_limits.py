"""Limits of the configuration: what windows count, what is kept for others, shares, and what cannot work."""

from pathlib import Path

import pytest
from relay.config.load import loads
from relay.config.problems import BadValue, ConfigInvalid
from relay.config.reading.windows import parse_bytes, parse_items, parse_window
from relay.core.calendar import Calendar
from relay.core.model import Rate
from relay.daemon.intake import directory
from relay.ingest.post_options import read_post_options
from relay.ingest.rows import one_row
from relay.web.refusal import Refusal

FILE = Path("relay.yaml")


def config(platform: str, quotas: str = "{}"):
    """Return a configuration of one platform."""
    return loads(
        f"version: 1\nquotas: {quotas}\nplatforms:\n  shop: {{url: http://shop.invalid/, {platform}}}\n", path=FILE
    )


def refused(platform: str, quotas: str = "{}") -> list[str]:
    """Return the codes and messages of what is wrong."""
    with pytest.raises(ConfigInvalid) as invalid:
        config(platform, quotas)
    return [f"{problem.code} {problem.message}" for problem in invalid.value.problems]


def test_windows_are_read() -> None:
    """Each unit and each calendar is what its text says."""
    assert parse_window("100000/day@+08:00") == Rate(100000, 86400.0, calendar=Calendar("day", 28800))
    assert parse_window("5/h@-03:30") == Rate(5, 3600.0, calendar=Calendar("hour", -12600))
    assert parse_window("100/min") == Rate(100, 60.0)
    assert parse_items("6000/min") == Rate(6000, 60.0, "items")
    assert parse_bytes("50MiB/min") == Rate(50 * 2**20, 60.0, "bytes")
    assert str(parse_items("9/day@+08:00")) == "9 items/day@+08:00"


@pytest.mark.parametrize("text", ["5/min@+08:00", "5/day@8", "5/day@+15:00", "0/day@+00:00", "5/month"])
def test_calendars_that_mean_nothing(text: str) -> None:
    """Minutes begin nowhere, a zone has hours and minutes, a month needs one, and nothing is no limit."""
    with pytest.raises(BadValue):
        parse_window(text)


def test_limits_reach_the_store() -> None:
    """A platform's own limits are one quota with all its rates; a quota keeps its reserve in each of its windows."""
    found = config(
        "rate: 9/s, items: 50/min, bytes: 1MiB/h, points: {rate: 7/s, cost: 2}, quotas: [app]",
        "{app: {rate: [40/s, 1000/day, 10/day@+08:00], items: 9/s, reserve: 5/s}}",
    ).store_rules()
    assert [str(rate) for rate in found.quotas["platform:shop"].rates] == [
        *("9/s", "50 items/min", "1048576 bytes/h", "7 points/s")
    ]
    assert found.quotas["app"].reserve == (5, 125, 0, 0)


@pytest.mark.parametrize(
    ("platform", "quotas", "wrong"),
    [
        (
            "points: {rate: 5/min, cost: 6}",
            "{}",
            "E051 platforms.shop.points.cost: 6 points for each callback never fit",
        ),
        ("quotas: [app]", "{app: {rate: 40/s, reserve: 5/min}}", "E051 quotas.app.reserve: 5/min has no window"),
        ("quotas: [app]", "{app: {rate: 40/s, reserve: 40/s}}", "E051 quotas.app.reserve: 40/s leaves nothing"),
        ("quotas: [app]", "{app: {per: group}}", "E011 quotas.app has no limit"),
        ("share: 3", "{}", "E051 platforms.shop.share: it shares no quota"),
        ('group_share: {"17": 3}', "{}", "E051 platforms.shop.group_share: there are no groups"),
    ],
)
def test_what_cannot_work(platform: str, quotas: str, wrong: str) -> None:
    """Each is refused, and says what to do."""
    assert [found for found in refused(platform, quotas) if found.startswith(wrong)]


def test_what_never_fits_is_refused_at_the_door() -> None:
    """A callback that alone is more than a window of bytes or points is 422; what it costs is kept with it."""
    shop = directory(
        config("bytes: 1KiB/min, points: {rate: 10/min, cost: weight}, batch: {max_bytes: 1MiB}")
    ).platforms["shop"]
    options = read_post_options({}, shop)
    assert one_row(b'{"weight": 3.2}', shop, options, None).points == 4
    assert one_row(b'{"weight": "none"}', shop, options, None).points == 1
    for body in (b'{"weight": 11}', b'"%b"' % (b"x" * 1030)):
        with pytest.raises(Refusal) as never:
            one_row(body, shop, options, None)
        assert never.value.code == "never_fits"
    plain = directory(config("rate: 1/s")).platforms["shop"]
    assert plain.weigh is None


@pytest.mark.parametrize("app", ["bytes: 1KiB/min", "points: {rate: 10/min, cost: weight}"])
def test_what_never_fits_a_shared_limit_is_refused_at_the_door(app: str) -> None:
    """A window of a quota holds no more than a platform's own does."""
    shop = directory(config("quotas: [app], batch: {max_bytes: 1MiB}", f"{{app: {{{app}}}}}")).platforms["shop"]
    options = read_post_options({}, shop)
    assert one_row(b'{"weight": 3}', shop, options, None)
    with pytest.raises(Refusal) as never:
        one_row(b'{"weight": 11, "more": "%b"}' % (b"x" * 1030), shop, options, None)
    assert never.value.code == "never_fits"
