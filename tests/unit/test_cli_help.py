"""``--help`` in Chinese: of every command and option, laid out for characters of two columns."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from relay.cli.main import relay, run
from relay.cli.support.table import width_of
from relay.cli.words.help import as_one_line

FILE = Path(__file__).resolve().parents[2] / "relay" / "cli" / "words" / "help.zh-CN.json"
CHINESE: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))


def _texts(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the help of a command, of its options, and of what is below it."""
    yield command.help or ""
    yield from (option.help or "" for option in command.get_params(context) if isinstance(option, click.Option))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _texts(below, click.Context(below, info_name=name, parent=context))


def test_every_command_and_option_is_explained_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left of what changed."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    texts = {as_one_line(text) for text in _texts(relay, click.Context(relay, info_name="relay"))} - {""}

    assert sorted(texts - CHINESE.keys()) == [], "say them in relay/cli/words/help.zh-CN.json"
    assert sorted(CHINESE.keys() - texts) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], ["用法：relay", "run          运行守护进程。", "显示版本。"]),
        (["dead", "retry", "--help"], ["再次发送符合的死信", "--yes", "不先问就做。", "显示这个说明并退出。"]),
        (["limit", "--help"], ["  relay limit shop-a 80/min --for 2h   两小时里每分钟最多 80\n"]),
    ],
)
def test_a_chinese_locale_has_chinese_help(
    arguments: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In 80 columns, no line begins with a stop; the next command of an English process is English again."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setenv("COLUMNS", "80")
    assert run(arguments) == 0
    page = capsys.readouterr().out

    assert [text for text in expected if text not in page] == []
    assert max(map(width_of, page.splitlines())) <= 80
    assert [line for line in page.splitlines() if line.lstrip()[:1] in tuple("，。；：、")] == []
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert run(arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: relay")
