"""The site: both languages have the same pages, no link is dead, and the reference is made from the code."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tools.site.links import dead_links
from tools.site.pages import LANGUAGES, lay_out, pages, slug, with_wide_lists
from tools.site.reference import PAGES, api, configuration, telemetry, write_reference
from tools.site.reference.words import Words

SETTINGS = Path(__file__).parents[2] / "tools" / "site"


def settings(language: str) -> str:
    """Return the text of a language's settings of Zensical."""
    return (SETTINGS / f"zensical.{language}.toml").read_text("utf-8")


def listed(nav: list[Any]) -> list[str]:
    """Return the pages of a table of contents in their order."""
    return [
        page
        for entry in nav
        for value in entry.values()
        for page in ([value] if isinstance(value, str) else listed(value))
    ]


def test_both_languages_list_all_pages() -> None:
    """The tables of contents have the same pages in the same order: every page of docs/, and the reference."""
    english, chinese = (listed(tomllib.loads(settings(language))["project"]["nav"]) for language in LANGUAGES)

    assert english == chinese
    all_pages = {*pages(), *(f"reference/{name}" for name in PAGES)}
    assert set(english) ^ all_pages == set(), "list each page once in both tools/site/zensical.*.toml"


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Neither fonts nor scripts of other hosts."""
    for language in LANGUAGES:
        assert "://" not in settings(language)
        assert tomllib.loads(settings(language))["project"]["theme"]["font"] is False


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_link_is_dead(tmp_path: Path, language: str) -> None:
    """Every link of the laid-out pages finds its page, its file and its heading; so do those of the reference."""
    lay_out(language, tmp_path)
    write_reference(language, tmp_path / "reference")

    assert len(list(tmp_path.rglob("*.md"))) == len(pages()) + len(PAGES)
    assert dead_links(tmp_path) == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    """A page that is not there, and a heading that is not."""
    (tmp_path / "here.md").write_text("# Some `thing`, *so*\n[a](gone.md) [b](#some-thing-so) [c](here.md#else)\n")

    assert dead_links(tmp_path) == ["here.md: gone.md", "here.md: here.md#else"]
    assert slug("任意 60 秒：`rate`") == "任意-60-秒rate"


def test_the_chinese_reference_says_what_the_code_says(tmp_path: Path) -> None:
    """No translation is left of a text that changed, and metrics, events, routes and settings have all of theirs."""
    words = write_reference("zh-CN", tmp_path)
    english = {
        text
        for page in (telemetry.metrics_page, telemetry.events_page, api.page, configuration.page)
        for text in _untranslated(page)
    }

    assert set(words.known) - words.used == set(), "take them out of tools/site/reference/words.zh-CN.json"
    assert english == set(), "say them in Chinese in tools/site/reference/words.zh-CN.json"


def _untranslated(page: Callable[[Words], str]) -> set[str]:
    words = Words("zh-CN")
    page(words)
    return words.missing


def test_lists_are_as_python_markdown_wants_them() -> None:
    """Four spaces below an item, an empty line before a list, and code apart from lists untouched."""
    given = "Text:\n1. one\n   more\n\n   ```sh\n   x\n   ```\n* two\n  more\nEnd\n```yaml\n- a\n  b\n```\n"

    assert with_wide_lists(given) == (
        "Text:\n\n1. one\n    more\n\n    ```sh\n    x\n    ```\n* two\n    more\nEnd\n```yaml\n- a\n  b\n```\n"
    )
