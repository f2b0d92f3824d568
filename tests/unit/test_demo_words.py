"""What the demonstration says to type next."""

import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay.cli.commands.trying.demo import _Terminal, called
from relay.cli.words.daemon_words import heard
from relay.demo.findings import Finding
from rich.console import Console
from tests.parsed import parsed

DEMO = Path(__file__).resolve().parents[2] / "relay" / "demo"


def test_the_relay_is_called_again_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name where the path finds it, else from where one stands, never by a long path that one is below."""
    program = tmp_path / "here" / "bin" / "relay"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", "/nowhere")
    assert called() == "bin/relay"
    monkeypatch.setenv("PATH", str(program.parent))
    assert called() == "relay"
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert called() == str(program)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "relay" / "__main__.py")])
    assert called() == f"{Path(sys.executable).name} -m relay"


def _said(tree: ast.Module) -> Iterator[str]:
    """Yield what the demonstration shows and what it says of its figures, each value as 7."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="say") | ast.Attribute(attr="say"), args=[_, said]):
                yield _sample(said)
            case ast.Call(func=ast.Name(id="Finding"), args=[_, _, said, _]):
                yield _sample(said)
            case ast.Assign(targets=[ast.Name(id="again")], value=(ast.JoinedStr() | ast.Constant()) as said):
                yield _sample(said)


def _sample(said: ast.expr) -> str:
    match said:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_sample(part) for part in parts)
        case ast.FormattedValue(value=value):
            return "s" if isinstance(value, ast.IfExp) else "7"  # the plural's ending, or what differs
        case ast.BinOp(left=ast.Constant(value=str(text))):
            return f"{text}7"
    return ""


@pytest.mark.parametrize("module", ["run", "reconcile", "findings"])
def test_the_demonstration_has_its_chinese(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step and every figure; commands to type and rows of differences stay as they are."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    said = [text for text in _said(parsed(DEMO / f"{module}.py")) if text and not text.startswith(("relay ", "7 7 7"))]
    assert len(said) >= 7
    assert [text for text in said if heard(text) == text] == []


def test_nothing_is_wider_than_a_small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns what does not fit goes on below itself; a wide terminal has it in one line."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    meaning = "each answered 202 from disk; 20 posts repeated around the kill, none queued twice"

    def shown(width: int) -> list[str]:
        file = io.StringIO()
        screen = _Terminal(Console(file=file, width=width, no_color=True))
        screen.say(
            "relay", "http://127.0.0.1:21801: the real daemon, process 31246, store /tmp/relay-demo-onc27o_d/r.db"
        )
        screen.finding(Finding("callbacks in", "3,000", meaning, holds=True))
        return file.getvalue().splitlines()

    assert shown(80) == [
        "  relay      http://127.0.0.1:21801: the real daemon, process 31246, store",
        "             /tmp/relay-demo-onc27o_d/r.db",
        "  ✓ callbacks in             3,000  each answered 202 from disk; 20 posts",
        "                                    repeated around the kill, none queued twice",
    ]
    assert len(shown(140)) == 2
