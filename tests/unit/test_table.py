"""Tables in 80 columns: what is copied is never broken, text gives way; a pipe gets one line per row."""

import pytest
from relay.cli.support.table import print_table

COLUMNS = ("id", "platform", "state", "key", "accepted", "tries", "reason")
ROW = (
    "1K0VE24A9Y000R9",
    "wechat-shipping-flagship",
    "pending (held)",
    "order-2026-11-29-000000000000000000000001",
    "02:33:25 +08:00 (3m ago)",
    "12",
    "errcode=10060004 the order is not known to the shop, or it was closed long ago",
)


@pytest.mark.parametrize("columns", [80, 60, 100])
def test_ids_are_whole(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Id, state and numbers stand on one line each, whatever else must wrap; a platform's name where there is room."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table([ROW], COLUMNS, ("tries",))
    shown = capsys.readouterr().out

    for whole in (ROW[0], ROW[2], ROW[5]):
        assert whole in shown
    assert (ROW[1] in shown) == (columns == 100)


def test_fits_80(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row stays within 80 columns, also one with the longest name of a platform and with all columns there are.

    The time of day is whole even then.
    """
    monkeypatch.setenv("COLUMNS", "80")
    rows = [(*ROW[:1], name, *ROW[2:4], "order.paid", *ROW[4:]) for name in ("shop-a", ROW[1], "x" * 64)]
    print_table(rows, (*COLUMNS[:4], "event", *COLUMNS[4:]), ("tries",))
    shown = capsys.readouterr().out

    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    assert shown.count("02:33:25") == 3


def test_a_pipe_gets_whole_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a row is a line, for grep."""
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table([ROW], COLUMNS, ("tries",))

    assert len(capsys.readouterr().out.splitlines()) == 2
