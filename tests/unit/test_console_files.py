"""The console's files: both languages say everything, nothing is inline, and all of it is small."""

import json
import re

from relay.admin.http.console_page import FOLDER, PAGE, ConsoleFiles

LANGUAGES = ("en", "zh-CN")
SCRIPTS = sorted(FOLDER.rglob("*.js"))
OURS = [path for path in SCRIPTS if "vendor" not in path.parts]
MADE_OF_PARTS = (
    "state.",
    "certificate.",
    "verified.",
    "figure.",
    "use.",
    "action.",
    "ask.",
    "done.",
    "source.",
    "waits.",
    "host.",
    "problem.",
    "platforms_",
    "page.",
    "column.",
    "filter.",
    "chart.",
    "series.",
    "operation.",
    "reload.",
    "kind.",
    "proposal.",
    "run.",
    "unit.",
    "until.",
    "d.",
)
MOST_BYTES = 150_000


def words(language: str) -> dict[str, str]:
    """Return the words of a language."""
    found: dict[str, str] = json.loads((FOLDER / "lang" / f"{language}.json").read_text(encoding="utf-8"))
    return found


def test_every_key_is_in_both_languages() -> None:
    """And each with the same values to fill in."""
    english, chinese = (words(language) for language in LANGUAGES)
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert sorted(set(re.findall(r"{\w+}", text))) == sorted(set(re.findall(r"{\w+}", chinese[key]))), key


def test_every_key_is_used_and_every_used_key_is_there() -> None:
    """A key that a page asks for and no file has would be shown as it is."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in OURS)
    there = set(words("en"))
    asked = set(re.findall(r'\b(?:t|many)\("([\w.…-]+)"', source))
    asked |= {key for pair in re.findall(r't\([^()"]* \? "([\w.]+)" : "([\w.]+)"', source) for key in pair}
    assert asked <= there
    quoted = set(re.findall(r'"([\w.…-]+)"', source))
    left = {
        key for key in there if key.removesuffix(".one") not in asked | quoted and not key.startswith(MADE_OF_PARTS)
    }
    assert left == set()


def test_nothing_is_inline_or_read_as_markup() -> None:
    """The policy forbids inline scripts and styles; texts become text nodes and nothing else."""
    page = (FOLDER / PAGE).read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://", text
        )
        assert found is None, (path.name, found)


def test_all_of_it_is_small() -> None:
    """All files together, compressed, as they are sent."""
    files = ConsoleFiles()
    assert sum(len(files.packed(name)) for name in files.plain) <= MOST_BYTES
