"""Comparisons on any host: asked of the owner of the platform, whose reports are shown."""

from typing import Any

import pytest
from relay.core.errors import RelayError, StoreFailed
from relay.hosts.errands import Errands
from relay.hosts.shared_reconciler import SharedReconciler, compare_here
from tests.hosts.test_errands import Channels


class Comparisons:
    """The comparisons of one host, with the runs that it has."""

    def __init__(self, *runs: str) -> None:
        self.runs = list(runs)

    async def ask(self, platform: str, question: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": "ok", "page": question["page"]}

    async def start(self, platform: str) -> dict[str, Any]:
        if self.runs:
            raise RelayError("one is under way")
        return {"run": "new", "platform": platform, "state": "running"}

    async def listed(self, platform: str | None) -> list[dict[str, Any]]:
        return [{"run": run} for run in self.runs]

    async def one(self, name: str) -> dict[str, Any] | None:
        return {"run": name, "differences": []} if name in self.runs else None


def host(name: str, channels: Channels, local: Comparisons, owned: set[str]) -> SharedReconciler:
    """Return what one host uses, which owns these platforms."""

    async def do(platform: str, verb: str, words: Any) -> Any:
        return await compare_here(local, platform, verb, words)

    errands = Errands(name, channels, prefix="t", owns=owned.__contains__, do=do)
    channels.heard.setdefault(errands.asks, []).append(errands.heard_question)
    channels.heard.setdefault(errands.answers, []).append(errands.heard_answer)
    return SharedReconciler(local, errands, owns=owned.__contains__, compared=lambda: ["shop"])


async def test_the_owner_compares() -> None:
    """Questions and runs are the owner's; runs of all hosts are listed; a platform that is not compared is unknown."""
    channels = Channels()
    host("a", channels, mine := Comparisons(), {"shop"})
    other = host("b", channels, Comparisons("20261128T020000"), set())
    assert await other.ask("shop", {"page": "1"}) == {"outcome": "ok", "page": "1"}
    assert (await other.start("shop"))["run"] == "new"
    mine.runs.append("20261129T020000")
    assert [each["run"] for each in await other.listed("shop")] == ["20261129T020000", "20261128T020000"]
    assert await other.one("20261129T020000") == {"run": "20261129T020000", "differences": []}
    assert await other.one("nothing") is None
    with pytest.raises(StoreFailed, match="one is under way"):
        await other.start("shop")
    with pytest.raises(KeyError):
        await other.start("mall")


async def test_without_an_owner_what_is_here_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody owns the platform for a moment: lists still answer, and a run cannot be started."""
    monkeypatch.setattr("relay.hosts.errands._WITHIN_S", 0.02)
    other = host("b", Channels(), Comparisons("20261128T020000"), set())
    assert [each["run"] for each in await other.listed(None)] == ["20261128T020000"]
    with pytest.raises(StoreFailed):
        await other.start("shop")
