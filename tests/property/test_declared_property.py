"""Declared limits are sane or not there, whatever the headers hold."""

from hypothesis import example, given
from hypothesis import strategies as st
from relay.wire.answers.declared import DeclaredLimits, declared_limits

NAMES = [
    "ratelimit-policy",
    "ratelimit-limit",
    "x-ratelimit-limit",
    "x-rate-limit-limit",
    "x-ratelimit-limit-hour",
    "ratelimit",
]
NUMBERS = st.integers().map(str) | st.floats().map(str) | st.text(max_size=5)
MEMBERS = st.builds(
    "{}{}q={}{}w={}{}".format,
    st.sampled_from(['"a"', "a", "100", '"a', ""]),
    st.sampled_from([";", "; ", ",", ""]),
    NUMBERS,
    st.sampled_from([";", " ;", ";pk=:YQ==:;", ";qu=requests;", ""]),
    NUMBERS,
    st.sampled_from([";w=60", ";qu=bytes", '"', ""]),
)
HEADERS = st.dictionaries(
    st.sampled_from(NAMES), st.text(max_size=200) | st.lists(MEMBERS, max_size=8).map(",".join), max_size=4
)


@given(st.lists(HEADERS, max_size=5))
@example([{"ratelimit-policy": '"\\'}])
def test_results_are_sane(answers: list[dict[str, str]]) -> None:
    """Nothing is raised; rates are at most four, in bounds, shortest first; what is remembered is what is said."""
    its = DeclaredLimits()
    for headers in answers:
        rates = declared_limits(headers)
        assert len(rates) <= 4
        assert [rate.window_s for rate in rates] == sorted({rate.window_s for rate in rates})
        for rate in rates:
            assert type(rate.limit) is int
            assert 1 <= rate.limit <= 10_000_000
            assert 1 <= rate.window_s <= 31 * 86400
        assert its.read(headers) in (None, rates)
        assert its.read(headers) is None
