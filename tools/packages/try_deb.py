"""Try the packages in bare Debian roots that systemd boots: install, start, deliver, upgrade, remove, purge.

``python -m tools.packages.try_deb deb12 deb13`` as root, with debootstrap and systemd-nspawn. It prints every command
with what it answered, and ends with 1 where something is not as it should be. The containers have no network; packages
that ours needs are installed before they boot.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.packages.pins import TOP

_PROGRAMS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "dpkg": "dpkg"}
SUITES = {"deb12": "bookworm", "deb13": "trixie"}
_BOOTED = "systemd,systemd-sysv,dbus,ca-certificates,adduser"
_WAIT_S = 60.0
_CONFIG = """
version: 1
admin: {listen: "127.0.0.1:8788"}
platforms:
  shop-a: {url: "http://127.0.0.1:8790/shop-a", rate: 600/min, key: order_id, envelope: array, batch: {max_items: 10}}
"""
_STORE = "/var/lib/private/relay/relay.db"


class Wrong(Exception):
    """Something is not as it should be."""


class Container:
    """A root that systemd booted."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._leader = leader

    def run(self, command: str, *, quiet: bool = False, fails: bool = False) -> str:
        """Run a shell command inside, print it with its answer, and return the answer."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "sh", "-c", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if not quiet:
            print(f"# {command}\n{done.stdout.rstrip()}", flush=True)
        if (done.returncode != 0) != fails:
            raise Wrong(f"{command!r} ended with {done.returncode}: {done.stdout[-500:]}")
        return done.stdout

    def wait(self, command: str, wanted: str) -> None:
        """Wait until the answer of ``command`` holds ``wanted``."""
        end = time.monotonic() + _WAIT_S
        while wanted not in self.run(f"{command} || true", quiet=True):
            if time.monotonic() > end:
                raise Wrong(f"{command!r} never said {wanted!r}: {self.run(f'{command} || true', quiet=True)[-500:]}")
            time.sleep(0.2)
        self.run(command)

    def ledger(self) -> dict[str, int]:
        """Return the totals that ``relay status`` shows."""
        return dict(json.loads(self.run("relay status -o json", quiet=True))["ledger"])


def bare_root(suite: str) -> Path:
    """Return a bare root of a Debian release with systemd in it, made once."""
    root = TOP / "build" / "roots" / suite
    if not root.exists():
        unfinished = root.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={_BOOTED}", suite, unfinished], check=True)
        unfinished.rename(root)
    return root


@contextmanager
def booted(root: Path) -> Iterator[Container]:
    """Boot ``root``; it is shut down at the end."""
    with root.with_suffix(".log").open("w") as log:
        nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", root, "--boot", "--register=no", "--keep-unit", "--private-network",
             "--console=read-only"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )  # fmt: skip
        try:
            container = Container(root, _leader(nspawn))
            container.wait("systemctl is-system-running", "running")
            yield container
            container.run("systemctl poweroff", quiet=True)
            nspawn.wait(30)
        finally:
            if nspawn.poll() is None:
                nspawn.kill()
                nspawn.wait()


def _leader(nspawn: "subprocess.Popen[bytes]") -> int:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        if nspawn.poll() is not None:
            raise Wrong(f"systemd-nspawn ended with {nspawn.returncode}")
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.1)
    raise Wrong("systemd-nspawn started nothing")


def packages(distribution: str) -> list[Path]:
    """Build two packages of the same version; the second is an upgrade of the first."""
    to = TOP / "build" / "packages"
    subprocess.run(
        [sys.executable, "-m", "tools.packages.build", distribution, "--release", "1", "--release", "2", "--to", to],
        check=True, cwd=TOP,
    )  # fmt: skip
    return sorted(to.glob(f"callback-relay_*_{distribution}_*.deb"))


def try_package(distribution: str) -> None:
    """Go the whole way of a package on one distribution."""
    first, second = packages(distribution)
    suite = SUITES[distribution]
    root = TOP / "build" / "tried" / suite
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", bare_root(suite), root], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(first, root / "opt/first.deb")
    shutil.copy(second, root / "opt/second.deb")
    _in_root(root, "apt-get update -qq; apt-get install -y -qq --no-install-recommends /opt/first.deb")
    with booted(root) as inside:
        _installed_and_started(inside)
        _upgraded(inside)
        _removed(inside)


def _installed_and_started(inside: Container) -> None:
    inside.run("relay --version; cat /etc/os-release | head -1; systemctl --version | head -1")
    inside.run("systemctl is-active relay", fails=True)
    (inside.root / "etc/relay/config.yaml").write_text(_CONFIG)
    inside.run("relay config check")
    inside.run("systemctl enable --now relay")
    inside.run("systemd-run -q --unit=platform relay sandbox")
    inside.run("""echo '{"order_id": "991", "status": "shipped"}' | relay send shop-a""")
    inside.wait("relay ls --state delivered", "shop-a")
    inside.run("relay status; systemctl status relay --no-pager -n 0; relay doctor")


def _upgraded(inside: Container) -> None:
    inside.run('relay pause shop-a --reason "upgrade tried"')
    inside.run(
        'for i in $(seq 50); do echo "{\\"order_id\\": \\"$i\\"}"; done | relay send shop-a --ndjson', quiet=True
    )
    before = inside.run("systemctl show -p MainPID relay")
    inside.run("dpkg -i /opt/second.deb")
    if inside.run("systemctl show -p MainPID relay") == before:
        raise Wrong("the service was not restarted by the upgrade")
    inside.wait("relay status", "50 pending")
    inside.run('relay resume shop-a --reason "upgrade done"')
    inside.wait("relay status", "51 delivered")


def _removed(inside: Container) -> None:
    inside.run("dpkg --remove callback-relay")
    inside.run("systemctl is-active relay", fails=True)
    inside.run(f"ls -l {_STORE} /etc/relay/config.yaml")
    inside.run("ls /opt/callback-relay /usr/bin/relay", fails=True)
    inside.run("dpkg -i /opt/second.deb && systemctl start relay")
    inside.wait("relay status", "51 delivered")
    inside.run("dpkg --purge callback-relay")
    inside.run("ls -d /var/lib/relay /var/lib/private/relay /etc/relay /opt/callback-relay", fails=True)


def _in_root(root: Path, command: str) -> None:
    subprocess.run(
        ["chroot", root, "sh", "-ec", command], check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    )


def see_to_programs() -> str:
    """Install the programs that this needs and that are not here; return why it cannot be done, or an empty text."""
    if os.geteuid() != 0:
        return "roots are made and booted as root: sudo make deb-test"
    if missing := [package for program, package in _PROGRAMS.items() if not shutil.which(program)]:
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        if not shutil.which("apt-get"):
            return f"not here: {', '.join(missing)}"
        print(f"installing {', '.join(missing)} with apt-get", file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        if subprocess.run(command, check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}).returncode:
            return f"cannot be had here: {', '.join(missing)}"
    return ""


def main() -> int:
    """Try the distributions that the command line names, or all."""
    if why := see_to_programs():
        print(why, file=sys.stderr)
        return 1
    for distribution in sys.argv[1:] or SUITES:
        try:
            try_package(distribution)
        except Wrong as wrong:
            print(f"{distribution}: {wrong}", file=sys.stderr)
            return 1
        print(f"{distribution}: installed, started, delivered, upgraded, removed, purged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
