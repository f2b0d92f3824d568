"""Tokens on disk: encrypted, whole, private; and what a wrong key or file comes to."""

import os
import stat
from pathlib import Path

import pytest
from relay.delivery.tokenstore import FileTokens, KeptToken, MemoryTokens, TokensNotKept
from relay.privacy.cipher import Cipher, NotDecrypted

KEY = bytes(range(32))
KEPT = KeptToken(terms="f", token="access-1", fetched_at=1.0, lives_s=2.0, refresh_token="refresh-1")


def test_a_restart_finds_what_was_kept(tmp_path: Path) -> None:
    """The last token of each credential is there again; the file is private and shows nothing."""
    path = tmp_path / "relay.db.tokens"
    tokens = FileTokens(path, key=KEY)
    assert tokens.load("a") is None
    tokens.save("a", KEPT)
    tokens.save("b", KEPT)
    newer = KeptToken(terms="f", token="access-2", fetched_at=3.0, lives_s=2.0, refresh_token="refresh-2")
    tokens.save("a", newer)

    again = FileTokens(path, key=KEY)
    assert (again.load("a"), again.load("b")) == (newer, KEPT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert not any(word in content for word in (b"access", b"refresh-"))
    assert os.listdir(tmp_path) == [path.name]
    assert "access" not in repr(KEPT)


def test_what_is_kept_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synced before the file takes its place, and the directory after it: else it may be lost."""
    did: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        empty = kind == "file" and not os.fstat(descriptor).st_size
        did.append(f"sync an empty {kind}" if empty else f"sync {kind}")
        sync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        did.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    FileTokens(tmp_path / "tokens", key=KEY).save("a", KEPT)

    assert did == ["sync file", "replace", "sync directory"]


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_links_in_the_way_are_not_written_through(tmp_path: Path, kind: str) -> None:
    """A link where the new file is written leads to somebody else's: that stays as it is."""
    victim, beside = tmp_path / "victim", tmp_path / "tokens.new"
    victim.write_text("precious")
    tokens = FileTokens(tmp_path / "tokens", key=KEY)
    if kind == "symbolic":
        beside.symlink_to(victim)
        with pytest.raises(TokensNotKept, match="File exists"):
            tokens.save("a", KEPT)
    else:
        os.link(victim, beside)
        tokens.save("a", KEPT)
        assert FileTokens(tmp_path / "tokens", key=KEY).load("a") == KEPT
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("damage", ["key", "byte", "magic", "short"])
def test_what_cannot_be_read_is_an_error_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    """Another key, a flipped byte, a foreign and a cut file: never a silent start without the refresh tokens."""
    path = tmp_path / "tokens"
    FileTokens(path, key=KEY).save("a", KEPT)
    content = path.read_bytes()
    changed = {
        "key": content,
        "byte": content[:-1] + bytes([content[-1] ^ 1]),
        "magic": b"x" + content,
        "short": content[:30],
    }
    path.write_bytes(changed[damage])
    with pytest.raises(TokensNotKept, match=r"store\.token_key"):
        FileTokens(path, key=bytes(32) if damage == "key" else KEY)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A directory that is gone makes the save an error; what is in memory stays."""
    directory = tmp_path / "gone"
    directory.mkdir()
    tokens = FileTokens(directory / "tokens", key=KEY)
    directory.rmdir()
    with pytest.raises(TokensNotKept, match="cannot be written: No such file"):
        tokens.save("a", KEPT)
    assert tokens.load("a") == KEPT


def test_memory_keeps_until_the_end() -> None:
    """Without a key tokens live in memory."""
    tokens = MemoryTokens()
    tokens.save("a", KEPT)
    assert (tokens.load("a"), tokens.load("b")) == (KEPT, None)


def test_ciphers_are_bound_to_key_and_purpose() -> None:
    """The same text never looks the same twice, and opens only with its key for its purpose."""
    cipher = Cipher(KEY, purpose=b"p")
    first, second = cipher.seal(b"text"), cipher.seal(b"text")
    assert first != second
    assert cipher.open(first) == cipher.open(second) == b"text"
    for other in (Cipher(bytes(32), purpose=b"p"), Cipher(KEY, purpose=b"q")):
        with pytest.raises(NotDecrypted):
            other.open(first)
    with pytest.raises(NotDecrypted):
        cipher.open(b"")
    with pytest.raises(ValueError, match="32 bytes"):
        Cipher(b"short", purpose=b"p")
