"""``relay explain CODE``: every code there is has words, and they are those of the docs."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from relay.cli.commands.explain import explain
from relay.cli.words.meanings import known_codes, meaning_of
from relay.config.problems import CODES
from relay.web.refusal import KINDS

ROOT = Path(__file__).resolve().parents[2]


def test_every_code_has_a_meaning() -> None:
    """Those of the configuration, in its order, and those of the APIs; no word is empty."""
    known = known_codes()
    assert [code for code, view in known.items() if view.group == "config"] == list(CODES)
    assert {code for code, view in known.items() if view.group == "problem"} == set(KINDS)
    assert all(view.meaning and view.todo for view in known.values())


def test_the_page_says_the_same() -> None:
    """The rows of docs/config-errors.md are the words that the command says."""
    page = (ROOT / "docs" / "config-errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([EW]\d{3}) \| (.*?) (?<!\\)\| (.*) \|$", page, re.MULTILINE)
    plain = [tuple(cell.replace("\\|", "|") for cell in row) for row in rows]
    said = [(view.code, view.meaning, view.todo) for view in known_codes().values() if view.group == "config"]
    assert plain == said


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("e020", "E020"),
        ("store_full", "store_full"),
        ("rejected: errcode=45011", "rejected"),
        ("retries used up: timeout", "retries used up"),
        ("Timeout", "timeout"),
        ("1K0VE24A9Y000R9", None),
    ],
)
def test_a_code_is_found_as_it_was_shown(text: str, code: str | None) -> None:
    """In any case, and a reason with what follows its colon."""
    found = meaning_of(text, known_codes())
    assert (None if found is None else found.code) == code


def test_a_code_is_said_in_words() -> None:
    """First what it means, then what to do."""
    ran = CliRunner().invoke(explain, ["E020"])
    assert ran.exit_code == 0
    assert ran.output.splitlines()[0] == "E020: Not a rate."
    assert ran.output.splitlines()[1].startswith("to do  `N/s`, `N/min`")
