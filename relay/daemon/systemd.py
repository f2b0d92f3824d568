"""Tells systemd how the daemon is, by datagrams to ``$NOTIFY_SOCKET`` (sd_notify(3)); silent without one."""

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
        """Start-up is finished: callbacks are accepted."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``."""
        self._send(f"STATUS={text}", wait_s=0.0)

    def reloading(self, monotonic_usec: int) -> None:
        """A reload begins; ``ready`` ends it (the time is required by Type=notify-reload)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_usec}")

    def stopping(self) -> None:
        """The daemon is on its way out."""
        self._send("STOPPING=1\nSTATUS=finishing requests under way")

    def alive(self) -> None:
        """Loop and store have just been seen to work."""
        self._send("WATCHDOG=1", wait_s=0.0)  # the next one follows soon

    def _send(self, message: str, *, wait_s: float = 1.0) -> None:
        """Send one datagram; ``wait_s`` bounds how long a full queue at the other end may hold up the loop."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(wait_s)
            try:
                sender.connect(self._address)
                sender.sendall(message.encode())
            except OSError:  # nobody listens any more, or not fast enough: systemd acts on its own timeouts
                return
