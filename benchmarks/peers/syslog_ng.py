"""syslog-ng's way from a TCP line to an HTTP request of 500: C throughout, nothing synced, no HTTP on the way in.

As the relay does, it reads each line as JSON and takes the order out of it; a line without one is not sent on. Without
that it only hands bytes on, at a third of the CPU. It compresses nothing: version 3.38 cannot.
"""

import shutil
import socket
import subprocess
import time
from pathlib import Path

from relay.standin.ports import free_port

from benchmarks.processes import BenchmarkFailed, Process

_CONFIG = """@version: {version}
options {{ log-msg-size(65536); stats-freq(0); }};
source lines {{
  network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse) log-iw-size(40000) log-fetch-limit(1000));
}};
destination platform {{
  http(url("{url}") method("POST") headers("Content-Type: application/x-ndjson") body("$MSG") delimiter("\\n")
       batch-lines({items}) batch-bytes(1048576) batch-timeout(100) workers(2) log-fifo-size(40000));
}};
parser fields {{ json-parser(prefix(".c.")); }};
filter ordered {{ "${{.c.order_id}}" ne "" }};
log {{ source(lines); parser(fields); filter(ordered); destination(platform); flags(flow-control); }};
"""
_START_S = 20.0


def missing() -> str:
    """Return what is not there, in words, or nothing."""
    program = shutil.which("syslog-ng", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        return "syslog-ng is not installed"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    modules = told.partition("Available-Modules:")[2].split("\n")[0].split(",")
    absent = [name for name in ("http", "json-plugin") if name not in modules]
    return f"syslog-ng has no module {' and no module '.join(absent)}" if absent else ""


class SyslogNg:
    """The peer while its block lasts; takes lines on ``port`` of 127.0.0.1."""

    def __init__(self, directory: Path, *, deliver_to: str, items: int, cpu: int | None) -> None:
        directory.mkdir(parents=True)
        program = shutil.which("syslog-ng", path="/usr/sbin:/usr/bin:/usr/local/sbin") or ""
        self.port = free_port()
        config = _CONFIG.format(version=_config_version(program), port=self.port, url=deliver_to, items=items)
        (directory / "config").write_text(config)
        command = [program, "--foreground", "--no-caps", "--cfgfile", str(directory / "config")]
        for option in ("persist-file", "pidfile", "control"):
            command += [f"--{option}", str(directory / option)]
        self._log = directory / "log"
        self.process = Process(command, cpu=cpu, stderr=self._log)

    def __enter__(self) -> "SyslogNg":
        while not self._listens():
            if self.process.popen.poll() is not None or time.monotonic() - self.process.started_at > _START_S:
                self.process.stop()
                raise BenchmarkFailed(f"syslog-ng did not become ready:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.01)
        return self

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self.process.stop()


def _config_version(program: str) -> str:
    """Return the version of the configuration's language that this syslog-ng speaks: 3.35 of a 3.38."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return next(line.split()[-1] for line in told.splitlines() if line.startswith("Config version"))
