"""The ports that tests and the demo give to processes which listen later, or again."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from relay.standin import ports

MANY = "from relay.standin.ports import free_port; print(*(free_port() for _ in range(120)), flush=True); input()"


def test_processes_that_run_at_once_have_different_ports() -> None:
    """Each port is handed out once, by one process, and lies below those of outgoing connections."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    programs = [
        subprocess.Popen([sys.executable, "-c", MANY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)
    ]
    handed_out = [int(port) for program in programs for port in program.stdout.readline().split()]  # type: ignore[union-attr]
    for program in programs:
        program.communicate(b"\n")
    assert len(set(handed_out)) == len(handed_out) == 3 * 120
    assert max(handed_out) < lowest


def test_a_port_that_somebody_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried before it is handed out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = ports.free_port()
        monkeypatch.setattr(ports, "_left", [taken.getsockname()[1], free])
        assert ports.free_port() == free


def test_none_left_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the ports and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_left", [])
        monkeypatch.setattr(ports, "_PORTS", range(port, port + ports._BLOCK))
        with pytest.raises(OSError, match=f"no port from {port} to .* is left"):
            ports.free_port()
