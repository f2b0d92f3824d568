"""Real databases for tests: a PostgreSQL and a MariaDB of their own, on sockets in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from relay.core.clock import boottime_s
from tests.installed import installed

_START_S = 60.0
_PLAIN_LOGIN = "--auth-root-authentication-method=normal"
# Three orders need no 130 MB of files and no rings of the kernel, of which a machine may have too few.
_SMALL = (
    "--innodb-use-native-aio=0",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-method=nosync",
)


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server until the block ends; yield its URL for SQLAlchemy."""
    initdb = installed("initdb", package="postgresql")
    postgres = installed("postgres", package="postgresql")
    with _folder("nobody") as (folder, user):
        data = folder / "data"
        subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        arguments = [postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with _running(arguments, folder, user, says="ready to accept connections", end=signal.SIGQUIT):
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"


@contextmanager
def mariadb() -> Iterator[str]:
    """Run a MariaDB server until the block ends; yield its URL for SQLAlchemy."""
    server = installed("mariadbd", package="mariadb-server")
    install = installed("mariadb-install-db", package="mariadb-server")
    with _folder("mysql") as (folder, user):
        data, socket = folder / "data", folder / "s"
        name = pwd.getpwuid(user if user is not None else os.geteuid()).pw_name
        # A server that starts deletes the temporary tables it finds: in /tmp also those of one that just begins.
        more = (f"--tmpdir={folder}", *_SMALL)
        made = subprocess.run(
            [install, "--no-defaults", f"--datadir={data}", f"--user={name}", _PLAIN_LOGIN, *more],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout[-2000:]
        arguments = [server, "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking", *more]
        with _running([*arguments, f"--user={name}"], folder, None, says="ready for connections", end=signal.SIGKILL):
            yield f"mysql+pymysql://root@localhost/test?unix_socket={socket}"


@contextmanager
def _folder(account: str) -> Iterator[tuple[Path, int | None]]:
    """Yield a short folder (a socket's name is bounded) and who owns it: databases do not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="db-", dir="/tmp"))
    user = pwd.getpwnam(account).pw_uid if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user, -1)
    try:
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    arguments: Sequence[str | Path], folder: Path, user: int | None, *, says: str, end: signal.Signals
) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, user=user, cwd=folder)
        try:
            deadline = boottime_s() + _START_S
            while says not in (said := log.read_text(errors="replace")):  # its socket is there before it answers
                assert process.poll() is None, said[-2000:]
                assert boottime_s() < deadline, f"no database within {_START_S:g} s"
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            yield
        finally:
            process.send_signal(end)  # nothing of it is wanted any more
            process.wait(60)
