"""Reports the daemon's state to systemd by datagrams to ``$NOTIFY_SOCKET`` (sd_notify(3)); without one, nothing."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends READY, STATUS, STOPPING and WATCHDOG."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environ.get("WATCHDOG_USEC", "")
        pid = environ.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.watchdog_s: float | None = int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 and mine else None

    def ready(self, status: str) -> None:
        """Report that the start, or a reload, has ended; ``status`` is the line in ``systemctl status``."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``."""
        self._send(f"STATUS={text}", wait_s=0.0)

    def reloading(self, monotonic_usec: int) -> None:
        """Report that a reload begins; ``ready`` ends it. Type=notify-reload needs the time."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_usec}")

    def stopping(self) -> None:
        """Report that the daemon stops."""
        self._send("STOPPING=1\nSTATUS=finishing requests under way")

    def alive(self) -> None:
        """Report that loop and store work at this moment."""
        self._send("WATCHDOG=1", wait_s=0.0)  # if it cannot be sent, the next one follows soon

    def _send(self, message: str, *, wait_s: float = 1.0) -> None:
        """Send one datagram. A full queue at the other end holds up the loop for ``wait_s`` at most."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(wait_s)
            try:
                sender.connect(self._address)
                sender.sendall(message.encode())
            except OSError:  # systemd does not listen or is too slow: it acts on its own timeouts
                return
