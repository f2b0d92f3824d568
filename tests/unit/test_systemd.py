"""Notifications go to systemd when there is one, and never hold up the daemon."""

import os
import socket
from pathlib import Path

import pytest
from relay.daemon.systemd import Notifier


def test_unit_waits_for_the_clock() -> None:
    """A machine whose clock is set at boot starts the relay after that: signatures and Dates would be hours off."""
    unit = (Path(__file__).parents[2] / "systemd" / "relay.service").read_text("utf-8")
    for setting in ("After", "Wants"):
        (line,) = [line for line in unit.splitlines() if line.startswith(f"{setting}=")]
        assert "time-sync.target" in line.split("=")[1].split()


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    """A service manager's socket."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "notify"))
    made.settimeout(5)
    return made


def test_says_what_happens(manager: socket.socket) -> None:
    """Each fact is one datagram in the form of sd_notify(3)."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("2 platforms")
    notifier.reloading(123)
    notifier.alive()
    notifier.stopping()

    with manager:
        told = [manager.recv(4096).decode() for _ in range(4)]

    assert told == [
        "READY=1\nSTATUS=2 platforms",
        "RELOADING=1\nMONOTONIC_USEC=123",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=finishing requests under way",
    ]


def test_an_abstract_socket_is_spoken_to() -> None:
    """``@`` stands for the NUL byte such an address begins with."""
    name = f"relay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert listening.recv(4096) == b"WATCHDOG=1"


def test_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    """With the manager's queue full, pings are dropped rather than waited for."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    with manager:
        for _ in range(5000):
            notifier.alive()

        assert manager.recv(4096) == b"WATCHDOG=1"


def test_silent_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a socket nobody has any more nothing happens, and without one no socket is made at all."""
    made: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *given: int) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr("relay.daemon.systemd.socket.socket", Noted)
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")
    assert [each.fileno() for each in made] == [-1]  # tried, and closed again
    assert list(tmp_path.iterdir()) == []

    for tell in (Notifier({}).ready, Notifier({}).status):
        tell("")
    Notifier({}).alive()
    assert len(made) == 1


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_is_ours_only_when_said_so(environ: dict[str, str], watchdog_s: float | None) -> None:
    """The interval counts when it is meant for this process (sd_watchdog_enabled(3))."""
    assert Notifier(environ).watchdog_s == watchdog_s
