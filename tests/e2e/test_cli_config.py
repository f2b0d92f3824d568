"""The real command: checking, showing and comparing files, exit codes and what it leaves alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD = 'version: 1\nplatforms: {a: {url: https://a.example/, headers: {Authorization: "Bearer ${env:TOKEN}"}}}\n'
BAD = "version: 1\nplatforms: {a: {url: https://a.example/, timeout: 10, rat: 5/s}}\n"


def relay(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory, with nothing of this process's environment but the path."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environ}
    command = [sys.executable, "-W", "error", "-m", "relay", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=30, check=False)


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
    """All problems, their number, that nothing happened, and exit 1."""
    done = relay("config", "check", "bad.yaml", cwd=directory)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "bad.yaml:2:51: E021 platforms.a.timeout: duration 10 has no unit; write 10s or 10m",
        "bad.yaml:2:55: E010 unknown key 'rat' in platforms.a; did you mean 'rate'?",
        "2 problems. Nothing was opened, written or sent.",
    ]
    assert done.stderr == ""


def test_show_masks_and_names_origins(directory: Path) -> None:
    """Effective settings in both forms, the secret as its reference, each with its origin if wanted."""
    plain = relay("config", "show", cwd=directory, TOKEN="t-o-k-e-n")
    assert "      Authorization: Bearer ${env:TOKEN}\n" in plain.stdout
    origin = relay("config", "show", "--origin", cwd=directory, TOKEN="t-o-k-e-n")
    assert any(line.split() == ["timeout:", "10s", "#", "built", "in"] for line in origin.stdout.splitlines())
    shown = json.loads(relay("config", "show", "-o", "json", cwd=directory, TOKEN="t-o-k-e-n").stdout)
    assert shown["platforms"]["a"]["retry"] == {"times": 3, "backoff": "2s..10m"}
    assert "t-o-k-e-n" not in plain.stdout + origin.stdout + json.dumps(shown)


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


def test_schema(directory: Path) -> None:
    """The schema is printed as committed."""
    done = relay("config", "schema", cwd=directory)
    assert done.stdout == (ROOT / "relay.schema.json").read_text(encoding="utf-8")


def test_usage_errors(directory: Path) -> None:
    """Wrong usage is exit 2 with a hint, never a traceback."""
    unknown = relay("confg", cwd=directory)
    assert unknown.returncode == 2
    assert "No such command 'confg'. Did you mean 'config'?" in unknown.stderr
    twice = relay("config", "check", "-c", "a", "b", cwd=directory)
    assert twice.returncode == 2
    assert "name the file once" in twice.stderr
    assert relay("config", "check", "--nope", cwd=directory).returncode == 2


def test_help_and_version_import_little(directory: Path) -> None:
    """Help imports no subcommand, and the configuration needs no HTTP library."""
    script = (
        "import sys; from relay.cli.main import run; assert run({0!r}) == 0; "
        "sys.exit(', '.join(name for name in {1!r} if name in sys.modules) or None)"
    )
    for arguments, unwanted in (
        (["--help"], ["pydantic", "yaml", "aiohttp", "rich", "relay.cli.config"]),
        (["--version"], ["pydantic", "yaml", "aiohttp", "rich"]),
        (["config", "check", str(ROOT / "config.yaml")], ["aiohttp", "apsw", "rich", "asyncio", "redis"]),
    ):
        command = [sys.executable, "-c", script.format(arguments, unwanted)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_is_no_traceback(directory: Path) -> None:
    """A reader that goes away (head) ends the command quietly."""
    command = [sys.executable, "-m", "relay", "config", "schema"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == b""
    process.stderr.close()
