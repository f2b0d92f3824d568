"""Which limits an answer's headers declare to be in force."""

import time

import pytest
from relay.core.model import Rate
from relay.wire.answers.answer import Headers
from relay.wire.answers.declared import DeclaredLimits, declared_limits

MINUTE, DAY = 60.0, 86400.0
NONE: list[tuple[int, float]] = []


def said(**headers: str) -> list[tuple[int, float]]:
    """The limits declared by headers whose names are written with underscores."""
    rates = declared_limits(Headers([(name.replace("_", "-"), value) for name, value in headers.items()]))
    return [(rate.limit, rate.window_s) for rate in rates]


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ('"burst";q=100;w=60,"daily";q=1000;w=86400', [(100, MINUTE), (1000, DAY)]),
        ('"daily";q=1000;w=86400, "burst";q=100;w=60', [(100, MINUTE), (1000, DAY)]),
        ('"peruser";q=100;w=60;pk=:cHsdsRa894==:', [(100, MINUTE)]),
        ('"peruser";q=65535;qu="content-bytes";w=10;pk=:sdfjLJUOUH==:', NONE),
        ('"c";q=40;qu="concurrent-requests", "r";q=100;w=60;qu="requests"', [(100, MINUTE)]),
        ("default ; q=10 ; w=1", [(10, 1.0)]),
        ("default;Q=10;W=1", [(10, 1.0)]),
        ("100;w=60", [(100, MINUTE)]),
        ('10;w=1, 50;w=60;burst=1000;comment="a, b; w=5", 1000;w=3600', [(10, 1.0), (50, MINUTE), (1000, 3600.0)]),
        ('"a,b;q=1;w=1";q=9;w=60', [(9, MINUTE)]),
        ('"a\\"";q=9;w=60', [(9, MINUTE)]),
        ('"burst";q=100', NONE),
        ("100", NONE),
        ("", NONE),
    ],
)
def test_policy(policy: str, rates: list[tuple[int, float]]) -> None:
    """The current draft's form and the older ones; only requests count, and only with a window."""
    assert said(RateLimit_Policy=policy) == rates


@pytest.mark.parametrize(
    ("headers", "rates"),
    [
        ({"RateLimit_Limit": "100, 100;w=60;burst=1000"}, [(100, MINUTE)]),
        ({"X_RateLimit_Limit": "100;w=60"}, [(100, MINUTE)]),
        ({"X_Rate_Limit_Limit": "100;w=60"}, [(100, MINUTE)]),
        ({"X_RateLimit_Limit": "100", "X_RateLimit_Reset": "60"}, NONE),
        ({"RateLimit_Limit": "100", "X_RateLimit_Limit": "7;w=1"}, [(7, 1.0)]),
        ({"RateLimit_Policy": '"x";q=5;w=1', "X_RateLimit_Limit": "7;w=1"}, [(5, 1.0)]),
        ({"RateLimit_Policy": "broken", "X_RateLimit_Limit": "7;w=1"}, [(7, 1.0)]),
        ({"RateLimit_Policy": '"x";q=5;w=1, "y";q=3;w=1'}, [(3, 1.0)]),
        ({"X_RateLimit_Limit_Minute": "100", "X_RateLimit_Limit_Second": " 5"}, [(5, 1.0), (100, MINUTE)]),
        ({"X_RateLimit_Limit_Hour": "5000", "X_RateLimit_Limit_Day": "-1"}, [(5000, 3600.0)]),
        ({"X_RateLimit_Limit": "100;w=60", "X_RateLimit_Limit_Second": "5"}, [(100, MINUTE)]),
        ({"X_RateLimit_Remaining_Minute": "99"}, NONE),
    ],
)
def test_older_headers(headers: dict[str, str], rates: list[tuple[int, float]]) -> None:
    """A count without a window declares nothing; the policy beats the rest, and of two counts the lower holds."""
    assert said(**headers) == rates


@pytest.mark.parametrize(
    "bad",
    [
        *("0;w=60", "-5;w=60", "100;w=0", "100;w=-60", "nan;w=60", "100;w=inf", "1e3;w=60", "100;w=6e1", "1.5;w=60"),
        *("10000001;w=60", "100;w=2678401", "9" * 400 + ";w=60", "\u0661\u0660\u0660;w=60", "100;w=\u0666\u0660"),
        *(";;;", ";w=60", "=;=", "100 w=60", '"x;q=100;w=60', '"x";q="100";w=60', '"x";q=;w=60'),
    ],
)
def test_bad_member_is_skipped(bad: str) -> None:
    """What makes no sense, or is absurd, declares nothing and takes nothing from the members before it."""
    assert said(RateLimit_Policy=bad) == NONE
    assert said(RateLimit_Policy=f"7;w=1,{bad}") == [(7, 1.0)]


def test_of_many_the_tightest_hold() -> None:
    """At most four limits are declared: those that allow least in the long run."""
    assert said(RateLimit_Policy="9;w=1, 99;w=60, 900;w=3600, 5000;w=86400, 20000;w=604800") == [
        (99, MINUTE),
        (900, 3600.0),
        (5000, DAY),
        (20000, 604800.0),
    ]


def test_cut_header_declares_no_half_number() -> None:
    """Of a header longer than is read, the member at the cut is left out instead of read in half."""
    padding = "x" * 2036
    assert said(RateLimit_Policy=f'5;w=1, "{padding}";q=100;w=86400') == [(5, 1.0)]
    assert said(RateLimit_Policy=f'"{padding}";q=100;w=86400') == NONE


@pytest.mark.parametrize(
    "text", [",".join(["1;w=1"] * 20_000), '"' * 100_000, '"' + '\\"' * 50_000, ";" * 100_000, "9" * 100_000]
)
def test_huge_header_takes_bounded_time(text: str) -> None:
    """100 KB of header are done with at once, whatever they hold: no step goes over them again and again."""
    began = time.process_time()
    said(RateLimit_Policy=text)
    assert time.process_time() - began < 0.5


def test_parses_only_what_changed() -> None:
    """Nothing new is None; other limits are told once, a name that changed is not."""
    its = DeclaredLimits()
    assert its.read({"ratelimit-policy": '"a";q=100;w=60'}) == (Rate(100, 60.0),)
    assert its.read({"ratelimit-policy": '"a";q=100;w=60'}) is None
    assert its.read({"ratelimit-policy": '"b";q=100;w=60'}) is None
    assert its.read({"ratelimit-policy": '"b";q=50;w=60'}) == (Rate(50, 60.0),)
    its.forget()
    assert its.read({"ratelimit-policy": '"b";q=50;w=60'}) == (Rate(50, 60.0),)


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-limit": "100"}])
def test_declared_limit_ends_when_answers_are_silent(headers: dict[str, str]) -> None:
    """A few answers that declare nothing change nothing; 200 in a row end it, once, and it may come again."""
    its = DeclaredLimits()
    policy = {"ratelimit-policy": '"a";q=100;w=60'}
    its.read(policy)
    assert [its.read(headers) for _ in range(199)] == [None] * 199
    assert its.read(policy) is None
    assert [its.read(headers) for _ in range(200)] == [None] * 199 + [()]
    assert [its.read(headers) for _ in range(300)] == [None] * 300
    assert its.read(policy) == (Rate(100, 60.0),)
