"""A host set up as ``systemd/relay.service`` describes: directories, credentials, a service, an operator.

It lives in mount and network namespaces of its own, so the real paths and default ports are used and nothing of the
machine is touched. Needs root and the right to make namespaces. What systemd does is done by hand: the service runs as
a user of its own, alone sees the state directory, and has its credentials only while it runs.
"""

import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from relay.core.clock import boottime_s
from tests import warm_start

REPOSITORY = Path(__file__).parents[2]
_SERVICE_UID = 61234  # of the range that DynamicUser= draws from
_OPERATOR_UID = 65534
_LOOPBACK_UP = "import fcntl,socket,struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0x49))"
_LAYOUT = """
set -e
mkdir -p {scratch}/etc {scratch}/kept
mount -t tmpfs tmpfs {scratch}/etc
cp -a /etc/. {scratch}/etc
mount --bind {scratch}/etc /etc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /etc/relay /etc/systemd/system /run/systemd/system /run/credentials
cp {unit} /etc/systemd/system/
{reachable}
{python} -c {loopback}
echo up
exec cat
"""
_AS_SERVICE = """
set -e
mount --make-rprivate /
mount --bind /var/lib/private/relay /mnt
mount -t tmpfs -o mode=755 tmpfs /var/lib/private
mkdir /var/lib/private/relay
mount --move /mnt /var/lib/private/relay
exec setpriv --reuid {uid} --regid {uid} --clear-groups {command}
"""


def may_make_namespaces() -> bool:
    """Tell whether this process may set such a host up."""
    return subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True, check=False).returncode == 0


class UnitHost:
    """One such host. Made by ``unit_host``."""

    def __init__(self, scratch: Path, holder: int) -> None:
        self.log = scratch / "journal"
        self._holder = holder
        self._enter = ["nsenter", "-t", str(holder), "-m", "-n", "--wd=/"]
        self._service: subprocess.Popen[bytes] | None = None

    def relay(
        self, *arguments: str, operator: bool = False, environ: Mapping[str, str] | None = None, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a ``relay`` command as root, or as an operator without rights."""
        inside = warm_start.Inside(self._holder, _OPERATOR_UID if operator else 0)
        env = _clean() | dict(environ or {})
        ran = warm_start.run_here(*arguments, stdin=given.encode(), env=env, cwd=Path("/"), inside=inside)
        return subprocess.CompletedProcess(arguments, *ran)

    def shell(self, script: str) -> str:
        """Run a script on the host as root and return what it says."""
        return subprocess.run(
            [*self._enter, "sh", "-ec", script], capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file of the host."""
        self.shell(f"cat > {path} <<'END'\n{text.rstrip()}\nEND\nchmod {mode:o} {path}")

    def start(self, credentials: Mapping[str, str]) -> None:
        """Start the service as systemd would, and wait until it is ready."""
        self.shell("mkdir -p -m 700 /var/lib/private /var/lib/private/relay; mkdir -p -m 755 /run/relay")
        self.shell("test -e /var/lib/relay || ln -s private/relay /var/lib/relay")
        self.shell("mkdir -p -m 500 /run/credentials/relay.service")
        for name, value in credentials.items():
            self.write(f"/run/credentials/relay.service/{name}", value, mode=0o400)
        mine = "/var/lib/private/relay /run/relay /run/credentials/relay.service"
        self.shell(f"chown -R {_SERVICE_UID}:{_SERVICE_UID} {mine}")
        command = f"{sys.executable} -m relay run -c /etc/relay/config.yaml"
        given = {
            "STATE_DIRECTORY": "/var/lib/private/relay",
            "CREDENTIALS_DIRECTORY": "/run/credentials/relay.service",
            "RUNTIME_DIRECTORY": "/run/relay",
            "CONFIGURATION_DIRECTORY": "/etc/relay",
        }
        with self.log.open("ab") as journal:
            self._service = subprocess.Popen(
                [*self._enter, "unshare", "-m", "sh", "-c", _AS_SERVICE.format(uid=_SERVICE_UID, command=command)],
                stdout=journal, stderr=journal, env=_clean() | given,
            )  # fmt: skip
        began = boottime_s()
        while '"event":"ready"' not in self.log.read_text():
            assert self._service.poll() is None, self.log.read_text()
            assert boottime_s() - began < 90, self.log.read_text()
            time.sleep(0.05)

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Run the unit's ExecReload as systemd would: as the service, with its credentials."""
        command = f"{sys.executable} -m relay reload --wait -c /etc/relay/config.yaml"
        given = {"CREDENTIALS_DIRECTORY": "/run/credentials/relay.service", "STATE_DIRECTORY": "/var/lib/private/relay"}
        return subprocess.run(
            [*self._enter, "unshare", "-m", "sh", "-c", _AS_SERVICE.format(uid=_SERVICE_UID, command=command)],
            capture_output=True, text=True, timeout=120, env=_clean() | given, check=False,
        )  # fmt: skip

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the service and take its credentials away; return its exit code."""
        assert self._service is not None
        self._service.send_signal(number)  # nsenter and the shell have become the service
        code = self._service.wait(timeout=60)
        self._service = None
        self.shell("rm -rf /run/credentials/relay.service")
        return code

    def close(self) -> None:
        """End what runs."""
        if self._service is not None:
            self.stop(signal.SIGKILL)


@contextmanager
def unit_host(scratch: Path) -> Iterator[UnitHost]:
    """Set a host up; ``scratch`` is a directory of its own."""
    script = _LAYOUT.format(
        scratch=scratch,
        unit=REPOSITORY / "systemd" / "relay.service",
        reachable="\n".join(_reachable(scratch)),
        python=shlex.quote(sys.executable),
        loopback=shlex.quote(_LOOPBACK_UP),
    )
    holder = subprocess.Popen(
        ["unshare", "-m", "-n", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    host = UnitHost(scratch, holder.pid)
    try:
        assert holder.stdout.readline() == "up\n"
        yield host
    finally:
        host.close()
        holder.stdin.close()
        holder.wait(timeout=30)
        holder.stdout.close()


def _reachable(scratch: Path) -> Iterator[str]:
    """Yield what lets others reach an interpreter or a checkout that lies where they may not go, as in a home."""
    needed = dict.fromkeys([Path(sys.base_prefix), Path(sys.prefix), REPOSITORY])
    hidden = {path: closed for path in needed if (closed := _closed(path)) is not None}
    for number, path in enumerate(hidden):
        yield f"mkdir {scratch}/kept/{number}; mount --bind {path} {scratch}/kept/{number}"
    for closed in dict.fromkeys(hidden.values()):
        yield f"mount -t tmpfs -o mode=755 tmpfs {closed}"
    for number, path in enumerate(hidden):
        yield f"mkdir -p {path}; mount --bind {scratch}/kept/{number} {path}"


def _closed(path: Path) -> Path | None:
    """Return the first directory on the way to ``path`` that others may not enter."""
    return next((above for above in reversed(path.parents) if not above.stat().st_mode & stat.S_IXOTH), None)


def _clean() -> dict[str, str]:
    """Return the environment of a login: nothing of this process's own settings for the relay."""
    ours = ("RELAY_", "STATE_", "CREDENTIALS_", "RUNTIME_", "NOTIFY_", "JOURNAL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
