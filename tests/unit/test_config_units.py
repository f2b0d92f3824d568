"""Quantities: what is read, and what is said about the rest."""

import pytest
from relay.config.problems import BadValue
from relay.config.reading.units import parse_backoff, parse_duration, parse_rate, parse_size
from relay.core.model import Rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10.0), ("5m", 300.0), ("24h", 86400.0), ("7d", 604800.0), ("1.5h", 5400.0), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Each unit of time counts as it should."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "code", "hint"),
    [
        (60, "E021", "write 60s or 60m"),
        ("60", "E021", "write 60s or 60m"),
        (1.5, "E021", "write 1.5s or 1.5m"),
        ("7days", "E021", "did you mean 7d?"),
        ("10S", "E021", "did you mean 10s?"),
        ("10 s", "E021", "write 10s"),
        ("5min", "E021", "did you mean 5m?"),
        ("10秒", "E021", "did you mean 10s?"),
        ("\uff11\uff10s", "E021", "write 10s"),
        ("99999999999999999999s", "E021", ""),
        ("5x", "E021", "units are ms, s, m, h, d and y"),
        ("-5s", "E021", "write one number and a unit: ms, s, m, h, d, y"),
        ("1h30m", "E021", "write one number and a unit: ms, s, m, h, d, y"),
        ("", "E021", "write one number and a unit: ms, s, m, h, d, y"),
        (True, "E021", "write a number and a unit: ms, s, m, h, d, y"),
        ("99999d", "E021", ""),
        ("٣s", "E021", "write one number and a unit: ms, s, m, h, d, y"),
    ],
)
def test_duration_mistakes(value: object, code: str, hint: str) -> None:
    """What is no duration is refused with what to write instead."""
    with pytest.raises(BadValue) as caught:
        parse_duration(value)
    assert (caught.value.code, caught.value.hint) == (code, hint)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512B", 512), ("64KiB", 65536), ("2MiB", 2 * 2**20), ("1GiB", 2**30), ("5MB", 5_000_000), ("0.5KiB", 512)],
)
def test_sizes(text: str, size: int) -> None:
    """Each unit of size counts as it should."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (100, "write 100KiB or 100MiB"),
        ("1M", "did you mean 1MiB?"),
        ("1mib", "did you mean 1MiB?"),
        ("1kb", "did you mean 1KB?"),
        ("0.1B", ""),
        ("9999999GiB", ""),
        ("1 MiB", "write 1MiB"),
        ([1], "write a number and a unit: B, KB, MB, GB, KiB, MiB, GiB"),
    ],
)
def test_size_mistakes(value: object, hint: str) -> None:
    """What is no size is refused with what to write instead."""
    with pytest.raises(BadValue) as caught:
        parse_size(value)
    assert (caught.value.code, caught.value.hint) == ("E022", hint)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/s", Rate(10, 1.0)),
        ("100/min", Rate(100, 60.0)),
        ("5000/h", Rate(5000, 3600.0)),
        ("100000/day", Rate(100000, 86400.0)),
        ("20/90s", Rate(20, 90.0)),
        ("3/500ms", Rate(3, 0.5)),
        ("7/2d", Rate(7, 172800.0)),
        ("1/31d", Rate(1, 2678400.0)),
        ("1/1234567s", Rate(1, 1234567.0)),
        ("2/0.515s", Rate(2, 0.515)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    """A rate is a number of requests in a named window or in any duration, and is written so that it can be read."""
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (100, "write 100/s or 100/min"),
        ("100", "write 100/s or 100/min"),
        ("100/m", "did you mean 100/min?"),
        ("100/d", "did you mean 100/day?"),
        ("100/MIN", "did you mean 100/min?"),
        ("100 / min", "write 100/min"),
        ("100 per minute", "write 100/min"),
        ("0/s", "use `relay pause` to stop a platform"),
        ("10/0s", ""),
        ("10/90d", ""),
        ("10/60", "write 60s or 60m"),
        ("10/fortnight", "windows are s, min, h, day or a duration such as 90s"),
        ("0.5/s", "only whole requests are counted: 1 in two seconds is 1/2s"),
        ("99999999999/min", "at most 999999999 requests in a window; leave the rate out for no limit"),
        ("1,000/min", "write 1000/min"),
        ("\uff11\uff10\uff10\uff0f\u5206\u949f", "write 100/min"),
        ("100/分钟", "did you mean 100/min?"),
        ("100次每分钟", "write 100/min"),
        ("100/minutes", "did you mean 100/min?"),
        (None, "write requests/window: 10/s, 100/min, 5000/h, 100000/day or 20/90s"),
        ({"per": "min"}, "write requests/window: 10/s, 100/min, 5000/h, 100000/day or 20/90s"),
    ],
)
def test_rate_mistakes(value: object, hint: str) -> None:
    """What is no rate is refused with what to write instead."""
    with pytest.raises(BadValue) as caught:
        parse_rate(value)
    assert (caught.value.code, caught.value.hint) == ("E020", hint)


def test_backoff_range() -> None:
    """A range gives the first and the longest wait in seconds."""
    assert parse_backoff("2s..10m") == (2.0, 600.0)
    assert parse_backoff("1s..1s") == (1.0, 1.0)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("10m..2s", "did you mean 2s..10m?"),
        ("2..10m", "write 2s or 2m"),
        ("2s", "write first..longest wait: 2s..10m"),
        ("0s..10m", "the first wait must be above 0"),
        (2, "write first..longest wait: 2s..10m"),
    ],
)
def test_backoff_mistakes(value: object, hint: str) -> None:
    """What is no range is refused with what to write instead."""
    with pytest.raises(BadValue) as caught:
        parse_backoff(value)
    assert (caught.value.code, caught.value.hint) == ("E023", hint)
