"""What the documentation names exists: files, links, commands and their options."""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest
from relay.admin.resources.operations import ACTIONS
from relay.cli.main import relay

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "tools" / "mutants" / "README.md"])
WITH_COMMANDS = [*PAGES, ROOT / "config.yaml", *sorted(ROOT.glob("systemd/*"))]

SOURCES = [path for folder in ("relay", "tests", "benchmarks", "tools") for path in ROOT.glob(f"{folder}/**/*.py")]

INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
"""What stands in backticks within a line."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
"""A Markdown link; the group is where it goes."""
CODE_FILE = re.compile(r"[\w./-]*\w\.py\b")
"""A Python file with or without its folders, as in ``policy/settle/answer.py`` and ``writer.py``."""
SHOWN = re.compile(r"(?:\$ )?(?:Exec\w+=/opt/relay/bin/)?(?:sudo )?(relay .*)")
"""A line of a block of commands, or of the service unit; the group is the command."""


def named_by(page: Path) -> str:
    """Return a page's path from the root: what its test is called."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named_by)
def test_files_exist(page: Path) -> None:
    """Every Python file that a page names is there, under the folders it names."""
    files = {file for code in INLINE.findall(page.read_text(encoding="utf-8")) for file in CODE_FILE.findall(code)}

    assert sorted(file for file in files if not any(path.match(file) for path in SOURCES)) == []


@pytest.mark.parametrize("page", PAGES, ids=named_by)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link of a page to another file of the repository finds it."""
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]

    assert [link for link in links if ":" not in link and not (page.parent / link).exists()] == []


FENCED = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)
"""A block of code with its fences, which may stand below an item of a list: its indentation, language and text."""
COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.M)
"""What the shell and YAML take for a comment."""
SECTION = re.compile(r"^(#+) ", re.M)
ITEM = re.compile(r"^ *(?:[*-]|\d+\.) ", re.M)
CHINESE = [path for path in PAGES if path.name.endswith(".zh-CN.md")]


def code_of(page: str) -> list[str]:
    """Return a page's blocks of code in their order, without comments: those may be in the page's language."""
    blocks = ((kind, text) for _, kind, text in FENCED.findall(page))
    bare = (COMMENT.sub("", text) if kind in ("", "sh", "yaml") else text for kind, text in blocks)
    return ["\n".join(line.rstrip() for line in text.splitlines()) for text in bare]


def shape_of(page: str) -> list[tuple[str, int, int]]:
    """Return of each section of a page, in order: the rank of its heading, its rows of tables, its items of lists."""
    parts = SECTION.split(FENCED.sub("", page))[1:]
    return [
        (rank, len(re.findall(r"^\|", text, re.M)), len(ITEM.findall(text)))
        for rank, text in zip(parts[::2], parts[1::2], strict=True)
    ]


@pytest.mark.parametrize("chinese", CHINESE, ids=named_by)
def test_both_languages_show_the_same(chinese: Path) -> None:
    """A page and its Chinese counterpart show the same, section by section, and lead to each other.

    That is: the same headings, tables and lists by rank and length, and the same blocks of code but for their comments.
    The Chinese README also explains the commands: it may have more.
    """
    english = chinese.with_name(chinese.name.replace(".zh-CN.md", ".md"))
    texts = [page.read_text("utf-8") for page in (english, chinese)]
    shown, left = map(code_of, texts)
    shapes = [shape_of(text) for text in texts]
    if english == ROOT / "README.md":
        following = iter(left)
        left = [block for block in shown if block in following]
        shapes = [[(rank, 0, 0) for rank, *_ in shape] for shape in shapes]

    assert left == shown, f"say in {chinese.name} what changed"
    assert shapes[1] == shapes[0], f"say in {chinese.name} what changed"
    assert chinese.name in LINK.findall(texts[0])
    assert english.name in LINK.findall(texts[1])


def test_every_page_is_there_in_chinese() -> None:
    """The README and all of docs/; the changelog is English."""
    pages = {path for path in PAGES if path == ROOT / "README.md" or path.is_relative_to(ROOT / "docs")}
    english = {path for path in pages if path not in CHINESE}

    assert [str(path) for path in english if path.with_name(path.stem + ".zh-CN.md") not in CHINESE] == []


@pytest.mark.parametrize("chinese", CHINESE, ids=named_by)
def test_chinese_leads_to_chinese(chinese: Path) -> None:
    """No link of a Chinese page leads to the English side of a page that has a Chinese one, but for its own."""
    links = {link.partition("#")[0] for link in LINK.findall(chinese.read_text("utf-8")) if ":" not in link}
    pages = {link for link in links if link.endswith(".md") and not link.endswith(".zh-CN.md")}
    pages.discard(chinese.name.replace(".zh-CN.md", ".md"))

    assert [link for link in pages if (chinese.parent / link.replace(".md", ".zh-CN.md")).exists()] == []


def test_a_page_that_lags_behind_is_noticed() -> None:
    """A comment may be in another language; another command, heading, row or item may not."""
    page = "# A\n```sh\nrun a  # one\n```\n| a |\n* b\n## C\n"

    assert code_of(page) == code_of(page.replace("# one", "# 一")) != code_of(page.replace("run a", "run b"))
    assert shape_of(page) == [("#", 1, 1), ("##", 0, 0)]
    for lost in ("| a |\n", "* b\n", "## C\n"):
        assert shape_of(page.replace(lost, "")) != shape_of(page)


def test_chinese_alone_is_enough() -> None:
    """Before its list of further pages the Chinese README sends nobody to an English page, except to this README."""
    way, _, further = (ROOT / "README.zh-CN.md").read_text("utf-8").partition("\n## 继续阅读\n")

    assert further
    assert [link for link in LINK.findall(way) if ".md" in link and ".zh-CN.md" not in link] == ["README.md"]


@pytest.mark.parametrize("page", ["clients.md", "clients.zh-CN.md"])
def test_clients_are_shown_as_they_are(page: str) -> None:
    """Each file of docs/clients stands in the page word for word, with a link to it."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    files = [path for path in sorted((ROOT / "docs/clients").iterdir()) if path.is_file()]

    assert files
    assert [file.name for file in files if f"\n{file.read_text('utf-8')}```\n" not in text] == []
    assert {f"clients/{file.name}" for file in files} <= set(LINK.findall(text))


def test_every_package_has_a_row() -> None:
    """docs/architecture.md has a row for each folder with modules, and the files to start reading at lie there."""
    rows = re.findall(r"^\| `([\w/]+)` \|.*\| (`[^|]*) \|$", (ROOT / "docs/architecture.md").read_text("utf-8"), re.M)
    folders = {str(path.parent.relative_to(ROOT / "relay")) for path in SOURCES if path.is_relative_to(ROOT / "relay")}
    holding = {folder for folder in folders - {"."} if len(list((ROOT / "relay" / folder).glob("*.py"))) > 1}
    missing = [f"{folder}/{file}" for folder, start in rows for file in CODE_FILE.findall(start)]

    assert holding - {folder for folder, _ in rows} == set()
    assert [path for path in missing if not (ROOT / "relay" / path).exists()] == []


def shown_commands(text: str) -> Iterator[str]:
    """Yield each command line ``relay ...`` of a page: in backticks, in a block of code, in a line of a unit."""
    fenced = False
    for line in text.splitlines():
        fenced ^= line.strip().startswith("```")
        shown = SHOWN.fullmatch(line.strip())
        if shown and (fenced or line.startswith(("    ", "Exec"))):
            yield shown[1]
            continue
        yield from (found[1] for code in INLINE.findall(line) if (found := SHOWN.fullmatch(code)))


_ENDS = frozenset(("&", "|", "||", "&&", ">"))
"""What ends a command in a line of the shell."""


def problem(command: str) -> str | None:
    """Return what would be refused of ``command``, None if nothing: subcommand, option, choice, argument too many."""
    words = list(takewhile(lambda word: word not in _ENDS, shlex.split(command, comments=True)[1:]))
    found: click.Command = relay
    context = click.Context(found, info_name="relay")
    try:
        while isinstance(found, click.Group) and words and not words[0].startswith("-"):
            name, under, words = found.resolve_command(context, words)
            assert under is not None
            found, context = under, click.Context(under, info_name=name, parent=context)
        values, left, _ = found.make_parser(context).parse_args(args=words)
        for parameter in found.params:
            if isinstance(parameter.type, click.Choice) and parameter.name in values:
                parameter.type_cast_value(context, values[parameter.name])
    except click.UsageError as error:
        return f"{command}: {error.format_message()}"
    return f"{command}: {left} is too much" if left else None


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=named_by)
def test_commands_parse(page: Path) -> None:
    """Every command line that a page shows has a subcommand and options that exist."""
    problems = map(problem, shown_commands(page.read_text(encoding="utf-8")))

    assert [one for one in problems if one] == []


@pytest.mark.parametrize(
    "command",
    ["relay statsu", "relay status --wach", "relay dead ls --state gone", "relay show A B", "relay send --key"],
)
def test_a_wrong_command_is_noticed(command: str) -> None:
    """No such subcommand, option or choice, an argument too many, an option without its value."""
    assert problem(command) is not None


@pytest.mark.parametrize(("page", "fewest"), [("threat-model.md", 20), ("guarantees.md", 7)])
def test_a_page_of_promises_names_tests_that_there_are(page: str, fewest: int) -> None:
    """What is said to show that an attack is met, or that a promise holds, is a file or a test function."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    files = set(re.findall(r"`(tests/[\w/]+(?:\.py)?)`", text))
    functions = set(re.findall(r"`(test_\w+)`", text))
    tests = "".join(path.read_text("utf-8") for path in SOURCES if path.is_relative_to(ROOT / "tests"))

    assert len(files) >= fewest
    assert [each for each in sorted(files) if not (ROOT / each).exists()] == []
    assert [each for each in sorted(functions) if f"def {each}(" not in tests] == []


def test_every_action_of_the_audit_is_explained() -> None:
    """The table of docs/privacy.md has each action that the sources write, and no other."""
    areas = "alert|audit|config|hosts|keys|login|operation|payload|platform|reconcile|store"
    written = {f"operation.{action}" for action in ACTIONS}
    for folder in ("admin", "cli/support", "daemon", "privacy", "upkeep"):
        for path in (ROOT / "relay" / folder).glob("**/*.py"):
            written |= set(re.findall(rf"(?:, |= )\"((?:{areas})\.[a-z_]+)\"", path.read_text("utf-8")))
    told: set[str] = set()
    area = ""
    for row in re.findall(r"^\| (`(?:\w+\.[a-z_]+)`[^|]*) \|", (ROOT / "docs/privacy.md").read_text("utf-8"), re.M):
        for word in INLINE.findall(row):
            area = word.partition(".")[0] or area
            told.add(f"{area}.{word.partition('.')[2]}")

    assert told == written - {"config.yaml"}
