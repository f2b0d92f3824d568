"""The real command: checking, showing and comparing files, exit codes and what it leaves alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from relay.standin.ports import free_port
from tests import warm_start

ROOT = Path(__file__).parents[2]
GOOD = 'version: 1\nplatforms: {a: {url: https://a.example/, headers: {Authorization: "Bearer ${env:TOKEN}"}}}\n'
BAD = "version: 1\nplatforms: {a: {url: https://a.example/, timeout: 10, rat: 5/s}}\n"


def relay(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory, with nothing of this process's environment but the path."""
    ran = warm_start.run_here(*arguments, cwd=cwd, env={"PATH": os.environ["PATH"], **environ})
    return subprocess.CompletedProcess(arguments, *ran)


def relay_cold(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it from its cold start."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environ}
    command = [sys.executable, "-W", "error", "-m", "relay", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a good file as config.yaml and a bad one."""
    (tmp_path / "config.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_check_a_good_file(directory: Path) -> None:
    """By default, by argument, by option and by variable: one line and exit 0, and no file appears."""
    before = sorted(directory.iterdir())
    for arguments, environ in (
        ([], {}),
        (["config.yaml"], {}),
        (["-c", "config.yaml"], {}),
        ([], {"RELAY_CONFIG": "config.yaml"}),
    ):
        done = relay("config", "check", *arguments, cwd=directory, TOKEN="t-o-k-e-n", **environ)
        assert (done.returncode, done.stdout, done.stderr) == (0, "config.yaml: ok, 1 platform\n", "")
    assert sorted(directory.iterdir()) == before


def test_check_a_bad_file(directory: Path) -> None:
    """From a cold start: all problems, their number, that nothing happened, and exit 1."""
    done = relay_cold("config", "check", "bad.yaml", cwd=directory)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "bad.yaml:2:51: E021 platforms.a.timeout: duration 10 has no unit; write 10s or 10m",
        "bad.yaml:2:55: E010 unknown key 'rat' in platforms.a; did you mean 'rate'?",
        "2 problems. Nothing was opened, written or sent.",
    ]
    assert done.stderr == ""


def test_check_as_json(directory: Path) -> None:
    """Problems and warnings as objects, all in a list or one a line, with the same exit codes."""
    spare = directory / "spare.yaml"
    spare.write_text("version: 1\nplatforms: {a: {url: https://a.example/}}\nquotas: {q: {rate: 1/s}}\n")
    bad = relay("config", "check", "bad.yaml", "-o", "json", cwd=directory)
    lines = relay("config", "check", "bad.yaml", "-o", "jsonl", cwd=directory)
    warned = relay("config", "check", "spare.yaml", "-o", "json", cwd=directory)
    good = relay("config", "check", "-o", "json", cwd=directory, TOKEN="t-o-k-e-n")

    assert [each.returncode for each in (bad, lines, warned, good)] == [1, 1, 0, 0]
    found = json.loads(bad.stdout)
    assert [json.loads(line) for line in lines.stdout.splitlines()] == found
    assert [(one["code"], one["line"]) for one in found] == [("E021", 2), ("E010", 2)]
    assert json.loads(warned.stdout) == [
        {
            "file": "spare.yaml",
            "line": 3,
            "col": 10,
            "code": "W003",
            "message": "no platform uses the quota 'q'",
            "hint": "",
        }
    ]
    assert (json.loads(good.stdout), good.stderr) == ([], "")


def test_show_masks_and_names_origins(directory: Path) -> None:
    """Effective settings in both forms, the secret as its reference, each with its origin if wanted."""
    plain = relay("config", "show", cwd=directory, TOKEN="t-o-k-e-n")
    assert "      Authorization: Bearer ${env:TOKEN}\n" in plain.stdout
    origin = relay("config", "show", "--origin", cwd=directory, TOKEN="t-o-k-e-n")
    assert any(line.split() == ["timeout:", "10s", "#", "built", "in"] for line in origin.stdout.splitlines())
    shown = json.loads(relay("config", "show", "-o", "json", cwd=directory, TOKEN="t-o-k-e-n").stdout)
    assert shown["platforms"]["a"]["retry"] == {"times": 3, "backoff": "2s..10m"}
    assert "t-o-k-e-n" not in plain.stdout + origin.stdout + json.dumps(shown)
    line = relay("config", "show", "-o", "jsonl", cwd=directory, TOKEN="t-o-k-e-n").stdout
    assert (line.count("\n"), json.loads(line)) == (1, shown)
    for form in ("table", "yaml"):
        assert relay("config", "show", "-o", form, cwd=directory, TOKEN="t-o-k-e-n").stdout == plain.stdout


def test_what_is_shown_is_a_configuration_again(directory: Path) -> None:
    """The output of show, saved as a file, is valid and means the same."""
    shown = relay("config", "show", "--origin", str(ROOT / "config.yaml"), cwd=directory).stdout
    (directory / "again.yaml").write_text(shown)
    again = relay("config", "show", "again.yaml", cwd=directory)
    assert again.stdout == relay("config", "show", str(ROOT / "config.yaml"), cwd=directory).stdout


def test_diff(directory: Path) -> None:
    """Two files compared: platforms added, removed, changed and left alone."""
    base = "version: 1\nplatforms:\n  a: {url: https://a/, rate: 100/min}\n  b: {url: https://b/}\n"
    (directory / "old.yaml").write_text(base + "  c: {url: https://c/}\n")
    (directory / "new.yaml").write_text(
        base.replace("100/", "60/") + "  d: {url: https://d/}\nstore: {url: 'sqlite:x.db'}\n"
    )
    done = relay("config", "diff", "old.yaml", "new.yaml", cwd=directory)
    assert done.stdout.splitlines() == [
        "+ platforms.d",
        "- platforms.c",
        "! store.url  sqlite:relay.db -> sqlite:x.db  (needs a restart)",
        "~ platforms.a.rate  100/min -> 60/min",
        "1 platform not touched",
    ]
    assert relay("config", "diff", "old.yaml", "old.yaml", cwd=directory).stdout == "no difference\n"
    assert relay("config", "diff", "-c", "old.yaml", "new.yaml", cwd=directory).stdout == done.stdout
    told = relay("config", "diff", "old.yaml", "new.yaml", "-o", "json", cwd=directory).stdout
    line = relay("config", "diff", "old.yaml", "new.yaml", "-o", "jsonl", cwd=directory).stdout
    assert (line.count("\n"), json.loads(line)) == (1, json.loads(told))
    assert relay("config", "diff", "a", "b", "c", cwd=directory).returncode == 2


def test_diff_with_what_the_daemon_has_in_force(directory: Path) -> None:
    """One file is compared with the running daemon, found where the file says; nobody there is exit 4."""
    admin = free_port()
    text = (
        f"version: 1\nadmin: {{listen: '127.0.0.1:{admin}'}}\ningest: {{listen: 'unix:{directory}/in'}}\n"
        "platforms:\n  a: {url: 'http://127.0.0.1:9/', rate: 5/s, headers: {X-Token: secret}}\n"
        "  b: {url: 'http://127.0.0.1:9/', rate: [1/s, 9/min], envelope: {kind: form, items_at: o, static: {x: y}}}\n"
    )
    running, new, moved = (directory / name for name in ("running.yaml", "new.yaml", "moved.yaml"))
    running.write_text(text)
    new.write_text(text.replace("5/s", "7/s") + "  c: {url: 'http://127.0.0.1:9/'}\n")
    moved.write_text(new.read_text().replace(str(admin), str(free_port())))
    alone = relay("config", "diff", "new.yaml", cwd=directory)
    log = directory / "log"
    with log.open("wb") as output:
        daemon = warm_start.start("run", "-c", str(running), output=output, env=os.environ, cwd=ROOT)
    try:
        while '"ready"' not in log.read_text():
            assert daemon.poll() is None
            time.sleep(0.02)
        same = relay("config", "diff", "-c", "running.yaml", cwd=directory)
        found = relay("config", "diff", "new.yaml", cwd=directory)
        elsewhere = relay("config", "diff", "moved.yaml", "--admin", f"127.0.0.1:{admin}", cwd=directory)
        told = relay("config", "diff", "new.yaml", "-o", "json", cwd=directory)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)

    assert (alone.returncode, alone.stdout) == (4, "")
    assert f"daemon not reachable at 127.0.0.1:{admin}" in alone.stderr
    assert "relay config diff OLD NEW" in alone.stderr
    assert (same.returncode, same.stdout) == (0, "no difference\n")
    changes = ["+ platforms.c", "~ platforms.a.rate  5/s -> 7/s", "1 platform not touched"]
    assert (found.returncode, found.stdout.splitlines()) == (0, changes)
    assert found.stderr == f"compared with what the daemon at 127.0.0.1:{admin} has in force\n"
    assert [line for line in elsewhere.stdout.splitlines() if line[0] != "!"] == changes
    assert json.loads(told.stdout)["platforms"] == {"added": ["c"], "removed": [], "changed": ["a"], "unchanged": ["b"]}


@contextmanager
def running(directory: Path, file: str) -> Iterator[int]:
    """Run the daemon of a file there; yield its process number when it is ready."""
    log = directory / "log"
    with log.open("wb") as output:
        daemon = warm_start.start("run", "-c", file, output=output, env=os.environ, cwd=directory)
    try:
        while '"ready"' not in log.read_text():
            assert daemon.poll() is None, log.read_text()
            time.sleep(0.02)
        yield daemon.pid
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)


def test_a_daemon_that_still_listens_on_the_former_address_is_found(tmp_path: Path) -> None:
    """``listen`` is changed in the file, and no restart followed: every command says where the daemon is."""
    before, now = (free_port(), free_port()), (free_port(), free_port())

    def write(ingest: int, admin: int) -> None:
        (tmp_path / "r.yaml").write_text(
            f"version: 1\ningest: {{listen: '127.0.0.1:{ingest}'}}\nadmin: {{listen: '127.0.0.1:{admin}'}}\n"
            "platforms: {shop: {url: 'http://127.0.0.1:9/'}}\n"
        )

    write(*before)
    (tmp_path / "order.json").write_text("{}")
    with running(tmp_path, "r.yaml") as process:
        write(before[0], now[1])
        reloaded = relay("reload", "-c", "r.yaml", cwd=tmp_path)
        status = relay("status", "-c", "r.yaml", cwd=tmp_path)
        doctor = relay("doctor", "-c", "r.yaml", cwd=tmp_path)
        said = relay("reload", "-c", "r.yaml", "--admin", f"127.0.0.1:{before[1]}", cwd=tmp_path)
        write(now[0], before[1])
        sent = relay("send", "shop", "order.json", "-c", "r.yaml", cwd=tmp_path)
    ended = relay("reload", "-c", "r.yaml", cwd=tmp_path)

    hint = f"process {process} has its store and listens on 127.0.0.1:{before[1]}: "
    assert (reloaded.returncode, hint in reloaded.stderr, "--admin" in reloaded.stderr) == (4, True, True), reloaded
    assert (status.returncode, hint in status.stderr) == (0, True), status
    assert hint in " ".join(doctor.stdout.split()), doctor
    assert "needs a restart" in said.stdout
    assert f"listens on 127.0.0.1:{before[0]}: " in sent.stderr, sent
    assert "--ingest" in sent.stderr
    assert (ended.returncode, "process" in ended.stderr) == (4, False), ended


def test_schema(directory: Path) -> None:
    """The schema is printed as committed; it is the same for every file that may be named."""
    committed = (ROOT / "relay.schema.json").read_text(encoding="utf-8")
    for arguments in ([], ["-c", "config.yaml"], ["config.yaml"], ["-c", "gone.yaml"]):
        done = relay("config", "schema", *arguments, cwd=directory)
        assert (done.returncode, done.stdout) == (0, committed)


def test_usage_errors(directory: Path) -> None:
    """Wrong usage is exit 2 with a hint, never a traceback."""
    unknown = relay("confg", cwd=directory)
    assert unknown.returncode == 2
    assert "No such command 'confg'. Did you mean 'config'?" in unknown.stderr
    for command in ("check", "show"):
        twice = relay("config", command, "-c", "a", "b", cwd=directory)
        assert twice.returncode == 2
        assert "name the file once" in twice.stderr
    assert relay("config", "check", "--nope", cwd=directory).returncode == 2


def test_commands_import_little(directory: Path) -> None:
    """Help imports no subcommand, and neither the configuration nor a look into the store needs the HTTP library."""
    script = (
        "import sys; from relay.cli.main import run; assert run({0!r}) == {1}; "
        "sys.exit(', '.join(name for name in {2!r} if name in sys.modules) or None)"
    )
    free = directory / "free.yaml"  # nobody listens there, and it has no store yet
    free.write_text(
        f"version: 1\nadmin: {{listen: 127.0.0.1:{free_port()}}}\nplatforms: {{a: {{url: http://a.example}}}}\n"
    )
    for arguments, code, unwanted in (
        (["--help"], 0, ["pydantic", "yaml", "aiohttp", "rich", "relay.cli.commands.config"]),
        (["--version"], 0, ["pydantic", "yaml", "aiohttp", "rich"]),
        (["config", "check", str(ROOT / "config.yaml")], 0, ["aiohttp", "apsw", "rich", "asyncio", "redis"]),
        (["status", "-c", str(free)], 4, ["aiohttp", "prometheus_client", "redis", "structlog", "cryptography"]),
    ):
        command = [sys.executable, "-c", script.format(arguments, code, unwanted)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_no_traceback(directory: Path) -> None:
    """A reader that goes away (head) ends the command quietly."""
    command = [sys.executable, "-m", "relay", "config", "schema"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=90) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_origins_of_the_example_stand_within_80_columns(tmp_path: Path) -> None:
    """Only a rule of many parts, which has no origin of its own, is longer."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    done = relay("config", "show", "--origin", cwd=tmp_path)
    origins = [line for line in done.stdout.splitlines() if "  # " in line]
    assert (done.returncode, len(origins) > 100) == (0, True), done.stderr
    assert [line for line in origins if len(line) > 80] == []


def test_another_file_than_the_daemons_is_told(tmp_path: Path) -> None:
    """Its limits were changed in a copy that no daemon reads: "0 changes" alone would look like a reload of it."""
    text = (
        f"version: 1\ningest: {{listen: '127.0.0.1:{free_port()}'}}\nadmin: {{listen: '127.0.0.1:{free_port()}'}}\n"
        "platforms: {shop: {url: 'http://127.0.0.1:9/', rate: 100/min}}\n"
    )
    copy = tmp_path / "copy"
    copy.mkdir()
    (tmp_path / "config.yaml").write_text(text)
    (copy / "config.yaml").write_text(text.replace("100/min", "50/min"))
    with running(tmp_path, "config.yaml"):
        own = [relay(*command, cwd=tmp_path) for command in (("reload", "--dry-run"), ("doctor",))]
        other = [relay(*command, cwd=copy) for command in (("reload", "--dry-run"), ("reload",), ("doctor",))]

    told = f"{tmp_path / 'config.yaml'}"
    assert [done.returncode for done in (*own, *other)] == [0, 0, 0, 0, 1], (own, other)  # no store lies there
    assert own[0].stderr == ""
    assert "in force" not in own[1].stdout
    assert [f"has {told}, and so read that: config.yaml is another file" in done.stderr for done in other] == [
        True, True, False,
    ]  # fmt: skip
    assert [line for line in other[2].stdout.splitlines() if line.startswith("warn  daemon")], other[2].stdout
    assert f"it has {told} in force and not this one" in " ".join(other[2].stdout.split())
