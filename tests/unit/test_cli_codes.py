"""``relay explain CODE``: every code there is has words, and they are those of the docs."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from relay.cli.commands.config import config
from relay.cli.commands.explain import explain
from relay.cli.main import SUBCOMMANDS
from relay.cli.words.language import command_summaries
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


def test_both_languages_have_the_same_codes() -> None:
    """In the same groups; a code that is named in one text is named in the other, so that nothing to type is lost."""
    chinese = known_codes("zh-CN")
    for code, view in known_codes().items():
        assert (chinese[code].group, bool(chinese[code].meaning), bool(chinese[code].todo)) == (view.group, True, True)
        named = re.findall(r"`(relay [^`]+)`", view.todo)
        assert [command for command in named if command not in chinese[code].todo] == []
    assert set(chinese) == set(known_codes())


def test_commands_are_summed_up_in_both_languages() -> None:
    """``relay --help`` has a Chinese line for every command, and for no other."""
    assert set(command_summaries()) == set(SUBCOMMANDS)


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "E020: 不是速率。"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "E020: Not a rate."),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW"}, "E020: 不是速率。"),
        ({}, "E020: Not a rate."),
    ],
)
def test_explain_speaks_the_language_of_the_locale(
    variables: dict[str, str], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LC_ALL wins over LC_MESSAGES, and that over LANG, as everywhere; the code stays as it is."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert CliRunner().invoke(explain, ["E020"]).output.startswith(first)


def test_a_check_says_each_code_in_chinese_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the problems, which keep their places and codes."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\nplatforms: {a: {url: 'http://a.example', rate: fast}, b: {url: 'http://b.example', rate: 9}}\n"
    )
    printed = CliRunner().invoke(config, ["check", str(file)]).output
    assert printed.count("E020") == 3
    assert printed.count("E020  不是速率。") == 1


@pytest.mark.parametrize(("language", "name"), [("en", "config-errors.md"), ("zh-CN", "config-errors.zh-CN.md")])
def test_the_page_says_the_same(language: str, name: str) -> None:
    """The rows of docs/config-errors.md are the words that the command says; so it is in Chinese."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([EW]\d{3}) \| (.*?) (?<!\\)\| (.*) \|$", page, re.MULTILINE)
    plain = [tuple(cell.replace("\\|", "|") for cell in row) for row in rows]
    said = [(view.code, view.meaning, view.todo) for view in known_codes(language).values() if view.group == "config"]
    assert plain == said


def test_no_code_is_told_twice() -> None:
    """A code that stands twice in a file of words would be told as the last one, and only that."""
    for name in ("meanings.json", "meanings.zh-CN.json"):
        text = (ROOT / "relay/cli/words" / name).read_text(encoding="utf-8")
        codes = re.findall(r'^    "([^"]+)": \[', text, re.MULTILINE)
        assert len(codes) == len(set(codes)), name


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
