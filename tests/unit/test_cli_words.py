"""What the commands say in Chinese: every sentence of theirs, under a Chinese locale, and in columns of its width."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay.cli.commands.status import ledger_line, store_line
from relay.cli.support import human, why_wait
from relay.cli.support.output import aligned, print_rows
from relay.cli.support.table import width_of, wrapped
from relay.cli.words.sentences import say
from relay.views.ledger import RoomView, TotalsView
from relay.views.waiting import WaitingView
from tests.parsed import parsed

CLI = Path(__file__).resolve().parents[2] / "relay" / "cli"
CHINESE: dict[str, str] = json.loads((CLI / "words" / "sentences.zh-CN.json").read_text(encoding="utf-8"))


def _trees() -> list[ast.Module]:
    return [parsed(path) for path in sorted(CLI.rglob("*.py"))]


def _said(node: ast.expr, line: int, tree: ast.Module) -> Iterator[str]:
    """Yield the sentences that an argument of ``say`` may be: a text, a name of texts, or what a mapping holds."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _said(body, line, tree)
            yield from _said(orelse, line, tree)
        case ast.Name(id=name):
            for value in _given(name, line, tree):
                yield from _said(value, line, tree)
        case ast.Subscript(value=ast.Name(id=name)) | ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
            for each in ast.walk(tree):
                match each:
                    case ast.Assign(targets=[ast.Name(id=target)], value=ast.Dict(values=values)) if target == name:
                        for value in values:
                            yield from _said(value, line, tree)


def _given(name: str, line: int, tree: ast.Module) -> list[ast.expr]:
    """Return what a name was given since it was last said before ``line``; else what it was given last."""
    given: list[tuple[int, ast.expr]] = []
    said = [0]
    for each in ast.walk(tree):
        match each:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                given.append((each.lineno, value))
            case ast.NamedExpr(target=ast.Name(id=target), value=value) if target == name:
                given.append((each.lineno, value))
            case ast.Call(func=ast.Name(id="say"), args=[ast.Name(id=target)]) if target == name and each.lineno < line:
                said.append(each.lineno)
    before = sorted(((at, value) for at, value in given if at <= line), key=lambda each: each[0])
    return [value for at, value in before if at > max(said)] or [value for _, value in before[-1:]]


def _calls() -> Iterator[tuple[str, set[str]]]:
    """Yield each sentence that the commands say, with the names of the values that it gets."""
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                names = {word.arg for word in node.keywords if word.arg}
                spread = any(word.arg is None for word in node.keywords)
                for text in _said(node.args[0], node.lineno, tree):
                    yield text, names | (_names(text) if spread else set())


def _names(text: str) -> set[str]:
    return set(re.findall(r"(?<!\{)\{(\w+)\}", text))


def test_every_sentence_has_its_chinese() -> None:
    """Each that is said, with no value that the call does not give."""
    calls = list(_calls())
    strange = [text for text, given in calls if not _names(CHINESE.get(text, "")) | _names(text) <= given]

    assert len(calls) > 200
    assert sorted({text for text, _ in calls} - CHINESE.keys()) == [], (
        "say them in relay/cli/words/sentences.zh-CN.json"
    )
    assert strange == []


def test_no_chinese_is_left_over() -> None:
    """What no command says any more is taken out."""
    texts = {
        node.value
        for tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    labels = {text.removesuffix("_at") for text in texts}

    assert sorted(CHINESE.keys() - texts - labels) == []


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the commands under a Chinese locale, in a terminal of 40 columns."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setenv("COLUMNS", "40")


@pytest.mark.usefixtures("chinese")
def test_the_locale_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """States, codes and commands to type stay; a sentence that is not known is said in English."""
    waiting = WaitingView(word="throttled", reason="408 Request Timeout")
    totals = TotalsView(accepted=4, pending=0, delivered=3, dead=1, expired=0, superseded=0, unaccounted=0)

    assert human.distance(100.0, now=40.0) == "1m后"
    assert why_wait.sentence(waiting, platform="shop-a") == "shop-a 要求等一等（408 Request Timeout）"
    assert "relay resume shop-a" in why_wait.to_do(waiting, platform="shop-a", callback="1K0X")
    assert ledger_line(totals) == "账目  4 已接收 = 3 delivered + 0 pending + 1 dead + 0 无着落"
    assert "store_full" in store_line(RoomView(used_bytes=9, usable_bytes=9, max_bytes=9, full=True))
    assert say("{n} of a kind", n=2) == "2 of a kind"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert ledger_line(totals) == "LEDGER  4 in = 3 delivered + 0 pending + 1 dead + 0 unaccounted"


@pytest.mark.usefixtures("chinese")
def test_chinese_takes_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines wrap between characters, never before a stop, and columns stand under their heads."""
    told = wrapped("shop-a：全部发完大约要 30h，而回调 1d 就过期：调高 batch.max_items，或者丢弃没人要的。", indent=2)
    facts = aligned([("依据", "a"), ("next", "b")])
    print_rows(
        [{"platform": "淘宝", "pending": 12}], output="table", columns=("platform", "pending"), right=("pending",)
    )

    assert len(told) > 2
    assert max(map(width_of, told)) <= 40
    assert [line for line in told if line.lstrip()[0] in "，。："] == []
    assert [width_of(line[: line.index(letter)]) for line, letter in zip(facts, "ab", strict=True)] == [6, 6]
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["平台", "待送"], ["淘宝", "12"]]
