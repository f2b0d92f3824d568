"""Whatever stands in the file, loading ends in a configuration or in problems with places, never in a traceback."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from relay.config.effective import as_yaml, effective
from relay.config.load import loads
from relay.config.problems import CODES, ConfigInvalid

ROOT = Path(__file__).parents[2]
KEYS = (
    "version ingest listen max_body token admin users store url keep quotas rate burst defaults platforms a headers "
    "batch max_items retry backoff breaker classify status path in as wait align tz key _a"
)
TEXTS = "off ok 2xx 100/min 10s 2MiB 2s..10m https://a/ ${env:X} ${env:E} [ single 127.0.0.1:1 +08:00 中"
WORDS = [*KEYS.split(), *TEXTS.split(), "a b", "", "\x85"]
SCALARS = st.one_of(st.sampled_from(WORDS), st.integers(-5, 10**6), st.booleans(), st.none(), st.floats())
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    max_leaves=12,
)
EXAMPLE = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def attempt(text: str) -> None:
    """Load a text; check the problems, or that what is shown can be loaded again."""
    environ = {"X": "secret-of-x"}
    lines = text.split("\n")
    try:
        config = loads(text, path="f.yaml", environ=environ)
    except ConfigInvalid as error:
        invalid = error
    else:
        assert "secret-of-x" not in as_yaml(effective(config), origin=True)
        return
    assert invalid.problems
    assert "secret-of-x" not in str(invalid)
    for problem in invalid.problems:
        assert problem.code in CODES
        assert 1 <= problem.line <= len(lines) + 1
        assert problem.col >= 1
        assert "\n" not in str(problem)


@settings(max_examples=80)
@given(place=st.lists(st.integers(0, 30), min_size=1, max_size=5), value=VALUES)
def test_a_wrong_value_anywhere(place: list[int], value: Any) -> None:
    """Any value put in place of any part of the example is accepted or refused with a place."""
    data = yaml.safe_load(yaml.safe_dump(EXAMPLE))
    branch = data
    for step in place[:-1]:
        keys = list(branch) if isinstance(branch, dict) else list(range(len(branch)))
        if not keys or not isinstance(branch[keys[step % len(keys)]], dict | list):
            break
        branch = branch[keys[step % len(keys)]]
    keys = list(branch) if isinstance(branch, dict) else list(range(len(branch)))
    if keys:
        branch[keys[place[-1] % len(keys)]] = value
    attempt(yaml.safe_dump(data, allow_unicode=True))


@settings(max_examples=80)
@given(text=st.text(alphabet=st.sampled_from(list("ab:-[]{}&*!|>'\"%@`#,? \n\t0123$~<\x00é\ud7ff")), max_size=60))
def test_any_text(text: str) -> None:
    """Any text at all is accepted or refused with a place."""
    attempt(text)


@settings(max_examples=40)
@given(start=st.integers(0, 3000), length=st.integers(0, 40), patch=st.text(alphabet=":-[]{}&*'\" \n#x", max_size=4))
def test_a_damaged_example(start: int, length: int, patch: str) -> None:
    """The example with a piece torn out or overwritten is accepted or refused with a place."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    attempt(text[:start] + patch + text[start + length :])
