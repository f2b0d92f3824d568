"""Which requests share a commit: what the loop queues in one go, and never so long that somebody starves."""

import asyncio
from pathlib import Path

import pytest
from relay.core.model import Accepted
from relay.store.sqlite.backend import SqliteStore
from relay.store.sqlite.thread import writer
from tests.store.harness import note, rules


class Commits:
    """Notes how many callbacks each commit took."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def store_committed(self, *, seconds: float, rows: int) -> None:
        """A commit."""
        if rows:
            self.rows.append(rows)

    def store_failed(self, *, error: BaseException) -> None:
        """A failure: there is none here."""
        raise AssertionError(error)

    def requests_cut_off(self, *, platform: str, requests: int, callbacks: int) -> None: ...

    def clock_ahead(self, *, seconds: float) -> None: ...

    def store_begun(self, *, path: str) -> None: ...

    def store_recovered(self, *, seconds: float) -> None:
        """The end of a failure."""
        raise AssertionError(seconds)


async def test_posts_of_consecutive_rounds_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten posts, each a round of the loop after the one before, make one group."""
    monkeypatch.setattr(writer, "_GATHER_S", 30.0)  # however slow this machine is now
    commits = Commits()
    store = await SqliteStore.open(tmp_path / "relay.db", events=commits)
    await store.configure(rules())

    async def later(rounds: int) -> Accepted:
        for _ in range(rounds):
            await asyncio.sleep(0)
        return await store.accept([note(b"%d" % rounds)])

    await asyncio.gather(*(later(rounds) for rounds in range(10)))
    await store.close()
    assert commits.rows == [10]


async def test_a_loop_that_always_has_more_still_commits(tmp_path: Path) -> None:
    """Posts that never stop coming do not put off the first one's commit."""
    store = await SqliteStore.open(tmp_path / "relay.db")
    await store.configure(rules())
    first = store.accept([note(b"first")])
    others = []
    while not first.done():
        others.append(store.accept([note(b"%d" % len(others))]))
        await asyncio.sleep(0)
    assert others  # and the first one's commit came all the same
    await asyncio.gather(first, *others)
    await store.close()


async def test_closing_commits_what_is_still_being_gathered(tmp_path: Path) -> None:
    """A post queued right before the store closes is committed, not dropped."""
    store = await SqliteStore.open(tmp_path / "relay.db")
    await store.configure(rules())
    queued = store.accept([note(b"last")])
    await store.close()
    assert len((await queued).ids) == 1
