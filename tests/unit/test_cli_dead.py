"""What ``relay dead`` asks of the daemon: never more than the person was shown."""

from typing import Any

import pytest
from click.testing import CliRunner
from relay.cli.commands.operate import dead
from relay.cli.support.locate import Place
from relay.views.moments import read
from tests.unit.fake_daemon import FakeDaemon


class Daemon(FakeDaemon):
    """It also groups dead letters."""

    def view(self, kind: type[Any], path: str, query: dict[str, Any]) -> Any:
        assert path == "/v1/dead-letters/groups"
        self.asked.append(query)
        group = {"platform": "shop-a", "reason": "rejected: errcode=7", "code": "7", "message": "", "count": 214}
        times = {"first_seen": "2026-11-29T10:00:00Z", "last_seen": "2026-11-29T11:00:00Z", "sample": "1K1D4Q8CR0GH7HJ"}
        return read(kind, {"items": [{**group, **times}], "complete": False})


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """A daemon that every command reaches."""
    made = Daemon("/v1/operations")
    monkeypatch.setattr(Place, "admin_client", lambda _place: made)
    return made


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_the_count_that_was_shown_must_still_fit(daemon: Daemon, action: str) -> None:
    """The daemon is told how many the person saw: it does nothing when others have died meanwhile."""
    done = CliRunner().invoke(dead.dead, [action, "--platform", "shop-a", "--yes", "--admin", "127.0.0.1:9"])

    assert done.exit_code == 0, done.output
    counted, started = daemon.asked
    assert counted["dry_run"] is True
    assert started["expect_count"] == 3
    assert started["filter"] == counted["filter"]


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_nothing_is_done_unasked(daemon: Daemon, action: str) -> None:
    """Without --yes and with nobody to ask it only counts, and says what is missing."""
    done = CliRunner().invoke(dead.dead, [action, "--platform", "shop-a", "--admin", "127.0.0.1:9"])

    assert done.exit_code == 2
    assert [body.get("dry_run") for body in daemon.asked] == [True]


def test_ids_are_the_filter(daemon: Daemon) -> None:
    """What was named, and no other."""
    CliRunner().invoke(dead.dead, ["drop", "a1", "b2", "--yes", "--admin", "127.0.0.1:9"])

    assert [body["filter"]["ids"] for body in daemon.asked] == [["a1", "b2"], ["a1", "b2"]]


def test_groups_are_one_line_each(daemon: Daemon) -> None:
    """A group shows what to type to act on it, in 80 columns, and says when more could not be counted."""
    done = CliRunner().invoke(
        dead.dead, ["groups", "--state", "held", "--code", "7", "--admin", "127.0.0.1:9"], env={"COLUMNS": "80"}
    )
    assert done.exit_code == 0, done.output
    assert daemon.asked == [{"state": "held", "code": "7"}]
    lines = done.output.splitlines()
    assert "214" in lines[1]
    assert "1K1D4Q8CR0GH7HJ" in lines[1]
    assert max(map(len, lines)) <= 80
    assert "narrow the filter" in lines[-1]
