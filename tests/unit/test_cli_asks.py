"""What cannot be undone is asked about first, on a terminal, unless ``--yes`` says that it was meant."""

from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from relay.cli.commands.keeping import keys
from relay.cli.commands.keeping.salvage import salvage_store
from relay.cli.support.locate import Place
from tests.unit.fake_daemon import FakeDaemon


@pytest.mark.parametrize(
    ("more", "typed", "code", "done"), [((), "n\n", 1, False), ((), "y\n", 0, True), (("--yes",), "", 0, True)]
)
def test_a_person_is_asked_before_data_is_destroyed(
    monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], typed: str, code: int, done: bool
) -> None:
    """``relay keys forget`` does nothing without a yes."""
    daemon = FakeDaemon("/v1/keys/forget")
    monkeypatch.setattr(Place, "admin_client", lambda _place: daemon)
    monkeypatch.setattr(keys, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    given = ["forget", "--key", "991", "--reason", "the buyer asked", "--admin", "127.0.0.1:9", *more]
    ended = CliRunner().invoke(keys.keys, given, input=typed)
    assert ended.exit_code == code, ended.output
    assert ("Destroy it?" in ended.output) == (not more)
    assert daemon.asked == ([{"key": "991", "reason": "the buyer asked"}] if done else [])


def test_a_person_is_asked_before_a_store_is_replaced(tmp_path: Path) -> None:
    """``relay doctor --salvage`` touches nothing without a yes."""
    config = tmp_path / "relay.yaml"
    config.write_text("version: 1\nplatforms: {shop: {url: 'http://127.0.0.1:9/'}}\nstore: {url: 'sqlite:relay.db'}\n")
    (tmp_path / "relay.db").write_bytes(b"damaged" * 1000)
    before = sorted(path.name for path in tmp_path.iterdir())
    asks = click.Command("salvage", callback=lambda: salvage_store(str(config), yes=False, output="table"))
    ended = CliRunner().invoke(asks, input="n\n")
    assert ended.exit_code == 1
    assert "in its place" in ended.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before
