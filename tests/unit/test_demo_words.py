"""What the demonstration says to type next."""

import sys
from pathlib import Path

import pytest
from relay.cli.commands.trying.demo import called


def test_the_relay_is_called_again_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name where the path finds it, else from where one stands, never by a long path that one is below."""
    program = tmp_path / "here" / "bin" / "relay"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", "/nowhere")
    assert called() == "bin/relay"
    monkeypatch.setenv("PATH", str(program.parent))
    assert called() == "relay"
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert called() == str(program)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "relay" / "__main__.py")])
    assert called() == f"{Path(sys.executable).name} -m relay"
