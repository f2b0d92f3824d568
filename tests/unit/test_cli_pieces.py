"""What the command line makes of numbers, times and places."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from relay.cli.commands.callbacks import query_of
from relay.cli.commands.keeping.store_copy import copy
from relay.cli.commands.operate.over_matches import result_text
from relay.cli.support import human
from relay.cli.support.client import Client, Unreachable
from relay.cli.support.config_file import other_file
from relay.cli.support.locate import DESTROYING, locate
from relay.cli.support.output import to_json
from relay.config.changes import in_words as changed_lines
from relay.core.errors import StoreAway, StoreUnusable
from relay.views.configuration import ChangeView, ReloadView
from relay.views.moments import Instant
from relay.views.operation_view import PLAIN, FilterView, OperationView


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (0.812, "812ms"),
        (0.0001, "1ms"),
        (59.6, "1m"),
        (149, "2m29s"),
        (662, "11m02s"),
        (11100, "3h05m"),
        (86400, "1d"),
        (180000, "2d02h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    """Short enough for a column, exact enough to act on."""
    assert human.duration(seconds) == text


def test_moments_are_local_with_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of whoever looks, and how far away that is; another day says its date."""
    import time

    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    now = 1_790_000_000.0

    assert human.moment(now - 180, now=now) == "22:10:20 +08:00 (3m ago)"
    assert human.moment(now + 18, now=now) == "22:13:38 +08:00 (in 18s)"
    assert human.moment(now - 86_400, now=now) == "2026-09-20 22:13:20 +08:00 (1d ago)"
    assert human.moment(None, now=now) == "-"
    assert query_of({"since": "2026-09-21T22:13", "until": "2h", "key": None}) == {
        "since": "2026-09-21T22:13:00+08:00",
        "until": "2h",
    }
    monkeypatch.undo()
    time.tzset()


def test_a_place_is_read_without_checking_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses and store come from the file whatever else it holds; options win; a store path is the daemon's."""
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("ADMIN_PORT", "9999")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "relay.yaml"
    file.write_text(
        'admin: {listen: "127.0.0.1:${env:ADMIN_PORT}"}\nstore: {url: sqlite:data/r.db}\nplatforms: {a: 7}\nx: y\n'
    )

    place = locate(str(file))

    assert (place.admin, place.ingest) == ("127.0.0.1:9999", "127.0.0.1:8787")
    assert (place.store, place.platforms) == (f"sqlite:{tmp_path}/data/r.db", ("a",))
    assert locate(str(file), admin="unix:/run/a").admin == "unix:/run/a"
    assert locate(None, admin="unix:/run/a").store is None
    assert locate(None).store == f"sqlite:{tmp_path}/relay.db"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/relay")
    assert locate(None).store == "sqlite:/var/lib/relay/relay.db"


def test_the_token_of_a_post_is_one_for_its_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``ingest.tokens`` one for every platform, else one for this; ``ingest.token`` and the environment win."""
    for name in ("RELAY_INGEST_TOKEN", "RELAY_TOKEN", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "b").write_text("token-b\n")
    file = tmp_path / "relay.yaml"
    some = '{name: x, token: a, platforms: [shop-a]}, {name: y, token: "${file:b}", platforms: [shop-a, shop-b]}'

    def found(ingest: str, post_to: str) -> str | None:
        file.write_text(f"ingest: {ingest}\n")
        return locate(str(file), post_to=post_to).ingest_token

    assert [found(f"{{tokens: [{some}]}}", name) for name in ("shop-a", "shop-b", "shop-c")] == ["a", "token-b", None]
    assert found(f"{{tokens: [{some}, {{name: z, token: c}}]}}", "shop-a") == "c"
    assert found(f"{{token: t, tokens: [{some}]}}", "shop-a") == "t"
    assert locate(str(file), ingest="http://elsewhere:8787", post_to="shop-a").ingest_token is None
    assert found("{tokens: [5, {token: 7}, {name: x, platforms: 3, token: w}]}", "shop-a") is None
    monkeypatch.setenv("RELAY_TOKEN", "mine")
    assert found(f"{{tokens: [{some}]}}", "shop-b") == "mine"


def test_a_command_takes_the_token_of_a_user_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's for most commands; to destroy data that of a user who may, wherever that user stands."""
    monkeypatch.delenv("RELAY_TOKEN", raising=False)
    file = tmp_path / "relay.yaml"
    users = "{name: o, role: operator, token: op}, {name: v, role: viewer, token: vi}"
    file.write_text(f"admin: {{users: [{users}, {{name: p, role: privacy, token: pr}}]}}\n")

    assert [locate(str(file)).admin_token, locate(str(file), roles=DESTROYING).admin_token] == ["op", "pr"]
    file.write_text(f"admin: {{users: [{users}]}}\n")
    assert locate(str(file), roles=DESTROYING).admin_token == "op"
    assert locate(str(file), admin="http://elsewhere:8788").admin_token is None  # it is this file's relay's alone


def test_an_address_nobody_listens_on_is_unreachable(tmp_path: Path) -> None:
    """Exit code 4, and a message that names the address."""
    for address in (f"unix:{tmp_path}/none", "http://127.0.0.1:1", "gopher://x", "127.0.0.1:notaport"):
        with pytest.raises(Unreachable) as caught:
            Client(address, timeout_s=1.0).get("/livez")

        assert caught.value.code == 4
        assert address in str(caught.value)


def test_what_an_operation_skipped_is_told_in_words() -> None:
    """Each reason with its count and what to do about it."""
    text = result_text(
        OperationView(
            id=7,
            action="retry",
            state="done",
            matched=5,
            done=2,
            skipped={"overtaken": 2, "odd": 1},
            failed=[],
            waiting=0,
            started_at=Instant(1.0),
            finished_at=Instant(2.0),
            filter=FilterView(),
            options=PLAIN,
        )
    )

    assert text.startswith("operation 7: 2 of 5 pending again; 2 skipped: a newer callback of the key was delivered")
    assert "--reorder" in text
    assert text.endswith("; 1 skipped: odd")


def test_json_cannot_drive_a_terminal() -> None:
    """Whatever an unprintable character of a key or an answer does to a terminal, JSON has an escape for it."""
    odd = "".join(map(chr, [*range(0x80), *range(0x80, 0xA1), 0x61C, *range(0x2000, 0x2070), 0xFEFF, 0xE0041]))
    for value in (odd, {odd: [odd]}, "\ud800"):
        for indent in (None, 2):
            text = to_json(value, indent=indent)
            assert json.loads(text) == value
            kinds = {unicodedata.category(char) for char in text if char != "\n"}
            assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert to_json("\u4f60\u597d \U0001f600") == '"\u4f60\u597d \U0001f600"'


def test_a_reload_shows_values_as_yaml() -> None:
    """Lists and mappings as they may be written into the file, not as Python prints them."""
    routes = [{"match": {"event": "order.*", "channel": None}, "to": ["shop-a"]}]
    changes = [
        ChangeView(path="routes", old=None, new=routes, needs_restart=False),
        ChangeView(path="x", old=True, new="on", needs_restart=False),
    ]
    result = ReloadView(applied=True, changes=changes, added=[], removed={}, problems=[])

    assert changed_lines(result) == [
        "~ routes not set -> [{match: {event: order.*, channel: null}, to: [shop-a]}]",
        "~ x true -> 'on'",
    ]


@pytest.mark.parametrize(
    ("carried", "error", "goes_on"),
    [
        (0, StoreAway("the store cannot be reached"), False),
        (100, StoreAway("the store cannot be reached"), True),
        (100, StoreUnusable("the source has changed: empty the target and begin again"), False),
    ],
)
def test_a_copy_that_is_cut_off_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, carried: int, error: Exception, goes_on: bool
) -> None:
    """Where it can: not where nothing was carried yet, and not against what the error itself says."""

    async def cut(*_given: object, told: Callable[[str, str, int], None], **_more: object) -> None:
        if carried:
            told("callbacks", "shop", carried)
        raise error

    monkeypatch.setattr("relay.daemon.store_copy.copy_between", cut)
    monkeypatch.setattr("relay.cli.commands.keeping.store_copy._loaded", lambda _config: None)
    ended = CliRunner().invoke(copy, ["--from", "sqlite:/x/a.db", "--to", "redis://h/0"])
    assert ended.exception is error
    assert ("--resume" in ended.stderr) == goes_on


def test_another_file_is_told_from_the_same_one_by_another_name(tmp_path: Path) -> None:
    """A link to the daemon's file is that file; a command without any file has none to differ."""
    theirs, mine, link = tmp_path / "theirs.yaml", tmp_path / "mine.yaml", tmp_path / "link.yaml"
    theirs.touch()
    mine.touch()
    link.symlink_to(theirs)

    assert [other_file(str(theirs), str(each)) for each in (theirs, link, tmp_path / "none.yaml", mine)] == [
        False, False, False, True,
    ]  # fmt: skip
    theirs.unlink()
    assert other_file(str(theirs), str(mine))
