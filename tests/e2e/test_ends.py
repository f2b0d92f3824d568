"""How `relay run` ends: exit code 78 for a configuration no restart mends, and a last line in the log's format."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests import warm_start
from tests.store.valkey import ValkeyServer

GOOD = "platforms: {shop-a: {url: http://127.0.0.1:9/}}\n"


def listeners(directory: Path) -> str:
    """Return the head of a configuration whose listeners disturb nobody."""
    return f'version: 1\ningest: {{listen: "unix:{directory}/in"}}\nadmin: {{listen: "unix:{directory}/admin"}}\n'


def ended(directory: Path, text: str | None, *options: str, **environ: str) -> tuple[int, list[dict[str, object]], str]:
    """Run the daemon on ``text``, which it cannot use; return exit code, log lines and standard error as it is."""
    file = directory / "config.yaml"
    if text is not None:
        file.write_text(text)
    arguments = ("run", "-c", str(file), "--log-format", "json", *options)
    ran = warm_start.run_here(*arguments, env={**os.environ, **environ})
    assert ran.out == ""
    return ran.code, [json.loads(line) for line in ran.err.splitlines()], ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "E001"),
        ("", "E004"),
        ("version: 1\nplatforms: [", "E003"),
        ("version: 2\n" + GOOD, "E008"),
        ("version: 1\nplatforms: {shop-a: {url: http://127.0.0.1:9/, rate: 100}}\n", "E020"),
        ("version: 1\nplatforms: {shop-a: {url: http://127.0.0.1:9/, nonsense: 1}}\n", "E010"),
        ("version: 1\nplatforms: {shop-a: {url: 'http://127.0.0.1:9/${file:no_such}'}}\n", "E040"),
        ("version: 1\nplatforms: {shop-a: {url: 'http://127.0.0.1:9/${env:NO_SUCH_VARIABLE}'}}\n", "E040"),
        ("version: 1\ningest: {listen: 'here'}\n" + GOOD, "E025"),
        ("version: 1\nadmin: {listen: '127.0.0.1:99999'}\n" + GOOD, "E025"),
        ("version: 1\nplatforms: {shop-a: {url: https://127.0.0.1:9/, connect: {ca: none.pem}}}\n", "E034"),
        (
            f"version: 1\ningest: {{processes: 1}}\ntelemetry: {{otlp: 'http://127.0.0.1:9/'}}\n{GOOD}",
            "E051",
        ),
    ],
)
def test_configuration_that_cannot_be_used(tmp_path: Path, text: str | None, said: str) -> None:
    """Exit 78, and the last line names every problem."""
    code, log, _ = ended(tmp_path, text)

    assert code == 78
    assert (log[-1]["level"], log[-1]["event"]) == ("error", "config_refused")
    assert said in str(log[-1]["problems"])


def test_address_that_no_restart_frees(tmp_path: Path) -> None:
    """A file that is no socket lies where the listener should be: the configuration is wrong, exit 78."""
    (tmp_path / "in").write_text("precious")
    code, log, _ = ended(tmp_path, listeners(tmp_path) + GOOD)

    assert (code, log[-1]["event"], log[-1]["exit_code"]) == (78, "failed", 78)
    assert "no socket" in str(log[-1]["detail"])


def test_port_in_use(tmp_path: Path) -> None:
    """A port that somebody else has may be free later: exit 1, told in the last line."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        text = f'version: 1\ningest: {{listen: "127.0.0.1:{port}"}}\nadmin: {{listen: "unix:{tmp_path}/admin"}}\n{GOOD}'
        code, log, _ = ended(tmp_path, text)

    assert (code, log[-1]["level"], log[-1]["event"]) == (1, "error", "failed")
    assert f"127.0.0.1:{port}" in str(log[-1]["detail"])


def test_store_that_is_none(tmp_path: Path) -> None:
    """Another program's file is refused in one line, without a traceback."""
    (tmp_path / "relay.db").write_text("no database at all" * 300)
    code, log, _ = ended(tmp_path, listeners(tmp_path) + GOOD)

    assert (code, log[-1]["event"]) == (1, "failed")
    assert "not a database" in str(log[-1]["detail"])


def test_server_that_keeps_no_file(tmp_path: Path) -> None:
    """A server without an append-only file is refused, and the last line says what to set there."""
    server = ValkeyServer(tmp_path / "server", appendonly="no")
    server.start()
    try:
        code, log, _ = ended(tmp_path, f"{listeners(tmp_path)}store: {{url: '{server.url}'}}\n{GOOD}")
    finally:
        server.kill()
    assert (code, log[-1]["event"], log[-1]["error"]) == (1, "failed", "StoreUnusable")
    assert "set appendonly yes" in str(log[-1]["detail"])


def test_refused_from_a_cold_start(tmp_path: Path) -> None:
    """A process of its own ends with the same code and the same last line."""
    (tmp_path / "config.yaml").write_text("version: 2\n" + GOOD)
    command = [sys.executable, "-m", "relay", "run", "-c", str(tmp_path / "config.yaml"), "--log-format", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.returncode, ran.stdout, "E008" in ran.stderr.splitlines()[-1]) == (78, "", True)


def test_priorities_under_the_journal(tmp_path: Path) -> None:
    """Where standard error is the journal's socket each line carries its priority; elsewhere none does."""
    (tmp_path / "config.yaml").write_text(listeners(tmp_path) + "platforms: {shop-a: {url: http://x:y@127.0.0.1:9/}}\n")
    reader, writer = os.pipe()
    about = os.fstat(writer)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "relay", "run", "-c", str(tmp_path / "config.yaml")],
        stderr=writer, env={**os.environ, "JOURNAL_STREAM": f"{about.st_dev}:{about.st_ino}"},
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as journal:
        lines = []
        for line in journal:
            lines.append(line)
            if '"event":"ready"' in line:
                daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=60) == 0

    told = {json.loads(line[3:])["event"]: line[:3] for line in lines}
    assert told["config_warning"] == "<4>"
    assert (told["ready"], told["stopped"]) == ("<6>", "<6>")

    code, _, text = ended(tmp_path, "", JOURNAL_STREAM=f"{about.st_dev}:{about.st_ino + 1}")
    assert (code, text[0]) == (78, "{")


def test_failure_after_failure(tmp_path: Path) -> None:
    """Under systemd, who failed three times in a row says that it waits, and a stop ends the wait at once."""
    (tmp_path / "config.yaml").write_text(listeners(tmp_path) + GOOD)
    (tmp_path / "restarts").write_text("7 99999999999\n")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "relay", "run", "-c", str(tmp_path / "config.yaml")],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)},
    )  # fmt: skip
    assert daemon.stderr is not None
    with daemon.stderr as log:
        for line in log:
            told = json.loads(line)
            if told["event"] == "restart_delayed":
                assert told["seconds"] == 30
                daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=60) == 0
    assert not (tmp_path / "restarts").exists()
