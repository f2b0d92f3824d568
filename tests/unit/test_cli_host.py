"""``relay completion`` and ``relay service print``: what they print works where it is put."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from relay.cli.commands.host.completion import completion
from relay.cli.commands.host.service import print_units

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "/opt/relay/bin/relay"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_asks_the_relay(shell: str) -> None:
    """Each script calls ``relay`` with the variable that click looks for, and names the function for ``relay``."""
    ran = CliRunner().invoke(completion, [shell])
    assert ran.exit_code == 0
    assert f"_RELAY_COMPLETE={shell}_complete" in ran.output


def test_commands_are_completed() -> None:
    """Asked as bash asks, the relay tells the commands that begin so, and the options of one."""

    def asked(words: str) -> list[str]:
        environ = {"_RELAY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        ran = subprocess.run(
            [sys.executable, "-m", "relay"], env=environ, capture_output=True, text=True, check=False, cwd=ROOT
        )
        return ran.stdout.split()

    assert set(asked("relay res")) == {"plain,resume", "plain,resolve", "plain,restore"}
    assert "plain,--for" in asked("relay pause --f")


def test_the_units_are_those_of_the_repository() -> None:
    """Both, or the one asked for, with the program of this installation in the place of the usual one."""
    here = Path(sys.executable).parent / "relay"
    both = CliRunner().invoke(print_units, [])
    for name in ("relay.service", "relay.socket"):
        text = (ROOT / "systemd" / name).read_text(encoding="utf-8")
        wanted = text.replace(PROGRAM, str(here)) if here.is_file() else text
        one = CliRunner().invoke(print_units, ["--only", name])
        assert (one.exit_code, one.output) == (0, wanted)
        assert f"# /etc/systemd/system/{name}\n{wanted}" in both.output


def test_the_unit_of_a_host_that_shares_its_store_ends_a_frozen_process() -> None:
    """With --shared the watchdog is shorter than a lease and kills; nothing else differs."""
    plain = CliRunner().invoke(print_units, ["--only", "relay.service"]).output
    shared = CliRunner().invoke(print_units, ["--only", "relay.service", "--shared"]).output

    assert "WatchdogSec=6\nWatchdogSignal=SIGKILL\n" in shared
    assert shared.replace("WatchdogSec=6\nWatchdogSignal=SIGKILL", "WatchdogSec=20") == plain
