"""The English words of the code in the reader's language, and what Markdown needs around them."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_FILE = Path(__file__).with_name("words.zh-CN.json")
_CODE = re.compile(r"(`[^`]*`)")


class Words:
    """Turns the code's English into the language of a page. A text that nobody translated stays English."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.known: dict[str, str] = {} if language == "en" else json.loads(_FILE.read_text(encoding="utf-8"))
        self.used: set[str] = set()  # what was found among the known
        self.missing: set[str] = set()

    def of(self, english: str) -> str:
        """Return the text in the page's language."""
        text = " ".join(english.replace("``", "`").split())
        if not text or self.language == "en":
            return text
        found = self.known.get(text)
        (self.missing if found is None else self.used).add(text)
        return text if found is None else found

    def __getitem__(self, texts: tuple[str, str]) -> str:
        """Return the one of ``English, Chinese`` that the page is in: for what the reference itself says."""
        return texts[0 if self.language == "en" else 1]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. Cells are Markdown, but for ``|``, which is escaped here."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines) + "\n"


def prose(text: str) -> str:
    """Return a text of the code as Markdown: what looks like a tag or an emphasis is no markup, code stays code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([*_\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def code(text: str) -> str:
    """Return a text as code within a line, nothing for nothing."""
    return f"`{text}`" if text else ""
