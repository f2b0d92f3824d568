"""What the daemon says, in the Chinese of the commands: every sentence that is known is one that the daemon says."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from relay.cli.words.daemon_words import heard
from tests.parsed import texts_in

RELAY = Path(__file__).resolve().parents[2] / "relay"
SPEAKING = {
    "admin/console/lang/daemon.zh-CN.json": ("admin/standing", "config", "limits", "policy/gate", "views"),
    "cli/words/tryouts.zh-CN.json": ("demo", "simulate"),
}
KNOWN: dict[str, tuple[str, str]] = {
    english: (chinese, file)
    for file in SPEAKING
    for english, chinese in json.loads((RELAY / file).read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize(
    ("said", "chinese"),
    [
        (
            "refused 1 time after 9 requests; a window of 9.44s was refused, one of 10s would explain it",
            "9 次请求之后被拒绝，共 1 次；9.44s 的窗口被拒绝过，10s 的可以解释",
        ),
        (
            "refused 4 times after 80 requests; a window of 58.2s was refused, one of 60s held, used up 104 times",
            "80 次请求之后被拒绝，共 4 次；58.2s 的窗口被拒绝过，60s 的经受住了，用满过 104 次",
        ),
        (
            "refused in 1 stretch that no limit explains: an outage, or too little seen so far",
            "有 1 段拒绝，没有限额能解释：可能是故障，也可能看到的还太少",
        ),
        ("outside its sending hours, 08:00-22:00 Asia/Shanghai", "不在发送时段 08:00-22:00 Asia/Shanghai"),
        ("connection refused", "connection refused"),
        (
            "process 7 is gone: 1,500 accepted so far, 1 request to the platform without an answer",
            "进程 7 没了：到现在已接收 1,500 个，发往平台的请求有 1 个没有回答",
        ),
        ("unknown key 'bach' in platforms.a", "platforms.a 里有不认识的键 'bach'"),
        ("platforms.a.rate: '100' is not a rate", "platforms.a.rate: '100' 不是速率"),
        ("routes must be a list, not 'a: b'", "routes 必须是列表，不能是 'a: b'"),
    ],
)
def test_the_daemon_is_heard_in_the_language_of_the_locale(
    said: str, chinese: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers stay; a reason that is a code stays as a whole."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert heard(said) == chinese
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert heard(said) == said


@cache
def _said_for(file: str) -> tuple[str, ...]:
    """Return the texts of the code that says the sentences of a file."""
    sources = (path for folder in SPEAKING[file] for path in sorted((RELAY / folder).rglob("*.py")))
    return tuple(text for path in sources for text in texts_in(path))


@pytest.mark.parametrize("english", KNOWN)
def test_the_daemon_says_so(english: str) -> None:
    """Each part between what differs stands in the code that says it, and the Chinese has the same names."""
    chinese, file = KNOWN[english]
    parts = [part.strip() for part in re.split(r"\{\w+\}|\b(?:times|requests|minutes|stretches)\b", english)]
    whole = english.removesuffix("the pause ends").removesuffix("an operator resumes it") if parts == [english] else ""

    assert [part for part in parts if not any((whole or part) in text for text in _said_for(file))] == []
    assert set(re.findall(r"\{(\w+)\}", chinese)) == set(re.findall(r"\{(\w+)\}", english))
