"""The pages of docs/ as the sources of a site: links stay within it, and Markdown is as Zensical reads it.

A page is a ``.md`` file of docs/, or the README or changelog. ``NAME.zh-CN.md`` is its Chinese side. Where there is
none the Chinese site shows the English page under a note.
"""

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh-CN")
CHINESE = ".zh-CN.md"
NOT_TRANSLATED = "> 这一页只有英文版。\n\n"

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
"""A link or an image; the groups: ``!`` of an image, the text, where it goes."""
_FENCE = re.compile(r"\s*```")
_MARKER = re.compile(r"(\*|-|\d+\.) ")
_WIDE = r"[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f“”‘’—…]"
_WITHIN_CHINESE = re.compile(rf"({_WIDE})\n *(?={_WIDE})")
_HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.M)
_NO_WORD = re.compile(r"[^\w\- ]")


def slug(heading: str) -> str:
    """Return a heading's anchor as GitHub and our settings of Zensical make it: ``The `store` `` is ``the-store``."""
    plain = LINK.sub(r"\2", heading).replace("`", "").strip().lower()
    return _NO_WORD.sub("", plain).replace(" ", "-")


def anchors_of(page: Path) -> list[str]:
    """Return the anchors of a page's headings in their order."""
    prose = "".join(part for is_prose, part in prose_and_code(page.read_text(encoding="utf-8")) if is_prose)
    return [slug(heading) for heading in _HEADING.findall(prose)]


def pages() -> dict[str, Path]:
    """Return every page's English file by its name in the site: ``index.md``, ``how-to/reconcile.md``."""
    docs = ROOT / "docs"
    found = {path.relative_to(docs).as_posix(): path for path in sorted(docs.rglob("*.md"))}
    own = {"index.md": ROOT / "README.md", "changelog.md": ROOT / "CHANGELOG.md"}
    return own | {name: path for name, path in found.items() if not name.endswith(CHINESE)}


def chinese_of(page: Path) -> Path:
    """Return where the Chinese side of a page is, or would be."""
    return page.with_name(page.name.removesuffix(".md") + CHINESE)


def lay_out(language: str, target: Path) -> None:
    """Write the pages of one language below ``target``, with the files that they link to."""
    for name, english in pages().items():
        chinese = chinese_of(english)
        source = chinese if language != "en" and chinese.exists() else english
        text = _Page(language, name, source, target).text()
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")


class _Page:
    """One page on its way into the site."""

    def __init__(self, language: str, name: str, source: Path, target: Path) -> None:
        self._language, self._name, self._source, self._target = language, name, source, target
        self._by_file = {path.resolve(): page for page, path in pages().items()}

    def text(self) -> str:
        """Return the page's Markdown."""
        text = self._source.read_text(encoding="utf-8")
        parts = [LINK.sub(self._link, part) if prose else part for prose, part in prose_and_code(text)]
        if self._source.name.endswith(CHINESE):
            parts = [_WITHIN_CHINESE.sub(r"\1", part) if index % 2 == 0 else part for index, part in enumerate(parts)]
        elif self._language != "en":
            heading, line, rest = parts[0].partition("\n")
            parts[0] = f"{heading}{line}\n{NOT_TRANSLATED}{rest}"
        return with_wide_lists("".join(parts))

    def _link(self, found: re.Match[str]) -> str:
        image, text, link = found.groups()
        path, mark, anchor = link.partition("#")
        if ":" in link or not path:
            return found[0]
        file = (self._source.parent / path).resolve()
        language = "en"
        if file.name.endswith(CHINESE):
            file, language = file.with_name(file.name.removesuffix(CHINESE) + ".md"), "zh-CN"
        page = self._by_file.get(file)
        if page is not None:
            english_only = not chinese_of(file).exists()
            other = language != self._language and (language == "zh-CN" or (self._by_file[file] == self._name))
            if other and not english_only:
                return f"{image}[{text}]({self._other_site(language, page)})"
            return f"{image}[{text}]({self._from_here(page)}{mark}{self._anchor(anchor, file)})"
        if not file.is_file() or file.suffix == ".md":
            return text  # a folder, or a page that is for readers of the source
        return f"{image}[{text}]({self._from_here(self._copied(file))}{mark}{anchor})"

    def _anchor(self, anchor: str, english: Path) -> str:
        """Return the anchor of the same heading in the language of the site: a Chinese page has Chinese ones."""
        chinese = chinese_of(english)
        if self._language == "en" or not anchor or not chinese.exists() or anchor not in anchors_of(english):
            return anchor
        return anchors_of(chinese)[anchors_of(english).index(anchor)]

    def _from_here(self, name: str) -> str:
        return posixpath.relpath(name, posixpath.dirname(self._name) or ".")

    def _other_site(self, language: str, page: str) -> str:
        """Return the way from this page's folder of the built site to the same page's in the other language."""
        depth = 0 if self._name == "index.md" else self._name.count("/") + 1
        folder = "" if page == "index.md" else page.removesuffix(".md") + "/"
        return "../" * (depth + 1) + f"{language}/{folder}"

    def _copied(self, file: Path) -> str:
        docs = ROOT / "docs"
        inside = file.relative_to(docs) if file.is_relative_to(docs) else Path("files", file.relative_to(ROOT))
        (self._target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self._target / inside)
        return inside.as_posix()


def prose_and_code(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the page in parts: prose (True), a block of code with its fences (False), prose, and so on."""
    part: list[str] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        fence = _FENCE.match(line) is not None
        if fence and not fenced:
            yield True, "".join(part)
            part = []
        part.append(line)
        if fence and fenced:
            yield False, "".join(part)
            part = []
        fenced ^= fence
    yield not fenced, "".join(part)


def with_wide_lists(text: str) -> str:
    """Return the page with four spaces before what belongs to an item of a list: Python-Markdown asks for so many.

    ``1. a`` with three spaces below it is how GitHub has it. A block of code that belongs to no item stays as it is.
    """
    lines: list[str] = []
    width = 0
    fenced = apart = False
    for line in text.splitlines(keepends=True):
        fence = _FENCE.match(line) is not None
        apart = apart or (fence and not fenced and not line.startswith(" " * (width or 1)))
        marker = None if fenced or apart else _MARKER.match(line)
        if marker:
            if not width and lines and lines[-1].strip():
                lines.append("\n")
            width = len(marker[0])
            lines.append(line)
        elif apart or not width or not line.strip():
            lines.append(line)
        elif line.startswith(" " * width):
            lines.append(" " * (4 - width) + line)
        else:
            width = 0
            lines.append(line)
        if fence and fenced:
            apart = False
        fenced ^= fence
        width = 0 if apart else width
    return "".join(lines)
