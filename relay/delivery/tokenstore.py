"""Keeps tokens over a restart: in memory only, or in one encrypted file beside the store.

A refresh token that the endpoint replaced is dead; losing the new one means a person has to authorise the app again.
So it is on disk, synced, before the token that came with it is used.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from relay.core.errors import ConfigUnusable, RelayError
from relay.privacy.cipher import Cipher, NotDecrypted

_T = TypeVar("_T")
_MAGIC: Final = b"callback-relay tokens 1\n"


class TokensNotKept(RelayError):
    """The file of tokens cannot be read or written."""


class WrongTokenKey(TokensNotKept, ConfigUnusable):
    """``store.token_key`` does not open the file of tokens."""


class KeptToken(msgspec.Struct, frozen=True):
    """What is kept of a credential. ``terms`` tells whether it was got under the settings now in force."""

    terms: str
    token: str
    fetched_at: float  # on the relay clock, in seconds
    lives_s: float
    refresh_token: str

    def __repr__(self) -> str:
        return "KeptToken(***)"


class TokenStore(Protocol):
    """Where the tokens of credentials are kept, by the credential's name."""

    def load(self, name: str) -> KeptToken | None:
        """Return what was kept last, or None."""
        ...

    def save(self, name: str, kept: KeptToken) -> None:
        """Keep ``kept`` in place of what was; durable when it returns. May block; raises ``TokensNotKept``."""
        ...


class MemoryTokens:
    """Keeps tokens until the process ends."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptToken] = {}

    def load(self, name: str) -> KeptToken | None:
        """Return what was kept last, or None."""
        return self._kept.get(name)

    def save(self, name: str, kept: KeptToken) -> None:
        """Keep ``kept`` in place of what was."""
        self._kept[name] = kept


class FileTokens:
    """Keeps tokens in ``path`` (mode 0600), encrypted with ``key`` and replaced as a whole, so never half written.

    Raises ``TokensNotKept`` for a file that cannot be read or was written with another key.
    """

    def __init__(self, path: Path, *, key: bytes) -> None:
        self._path = path
        self._writing = threading.Lock()  # credentials are saved from threads of their own
        self._cipher = Cipher(key, purpose=_MAGIC)
        self._kept = self._read()

    def load(self, name: str) -> KeptToken | None:
        """Return what was kept last, or None."""
        return self._kept.get(name)

    def save(self, name: str, kept: KeptToken) -> None:
        """Keep ``kept`` in place of what was; it is on disk when this returns. Raises ``TokensNotKept``."""
        with self._writing:
            self._kept[name] = kept
            sealed = self._cipher.seal(msgspec.json.encode(self._kept))
            self._attempt("written", lambda: self._replace(_MAGIC + sealed))

    def _read(self) -> dict[str, KeptToken]:
        if not self._path.exists():
            return {}
        content = self._attempt("read", self._path.read_bytes)
        advice = "give store.token_key as it was, or remove the file: tokens are then fetched anew, and refresh tokens"
        if not content.startswith(_MAGIC):
            raise WrongTokenKey(f"{self._path} holds no tokens of this relay; {advice} start from the configuration")
        try:
            plain = self._cipher.open(content.removeprefix(_MAGIC))
        except NotDecrypted as error:
            raise WrongTokenKey(f"{self._path}: {error}; {advice} start from the configuration") from error
        return msgspec.json.decode(plain, type=dict[str, KeptToken])

    def _replace(self, content: bytes) -> None:
        beside = self._path.with_name(self._path.name + ".new")
        if not beside.is_symlink():  # that is nobody's but who made it; O_EXCL refuses it
            beside.unlink(missing_ok=True)  # left over from a crash; not written into, it may be a hard link by now
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _attempt(self, what: str, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except OSError as error:
            raise TokensNotKept(f"{self._path} cannot be {what}: {error.strerror or error}") from error
