"""Who is logged in at the console, and who tried too often: in memory alone, so a restart ends every session."""

import hashlib
import secrets
from collections import deque

from relay.admin.access import User

LASTS_S = 12 * 3600.0
MOST_TRIES = 10
TRIES_OVER_S = 60.0
_MOST_SESSIONS = 1000
_MOST_ADDRESSES = 1000


class Sessions:
    """The open sessions. Only a digest of each cookie is kept; times are on the relay clock."""

    def __init__(self) -> None:
        self._open: dict[bytes, tuple[User, float]] = {}

    def begin(self, user: User, now: float) -> str:
        """Return the secret of a new session of ``user``; the oldest session goes where there are too many."""
        while len(self._open) >= _MOST_SESSIONS:
            del self._open[next(iter(self._open))]
        secret = secrets.token_urlsafe(32)
        self._open[_digest(secret)] = (user, now + LASTS_S)
        return secret

    def user(self, secret: str, now: float) -> User | None:
        """Return whose session it is; None for one that has ended or never was."""
        found = self._open.get(_digest(secret))
        if found is None:
            return None
        user, ends_at = found
        if now >= ends_at:
            self.end(secret)
            return None
        return user

    def end(self, secret: str) -> None:
        """End a session; one that is not there has ended already."""
        self._open.pop(_digest(secret), None)


class Tries:
    """Wrong tokens by address: ten a minute, then nothing from there is looked at."""

    def __init__(self) -> None:
        self._wrong: dict[str, deque[float]] = {}

    def too_many(self, address: str, now: float) -> bool:
        """Return whether ``address`` has used up its tries of the last minute."""
        times = self._wrong.get(address)
        return times is not None and len(times) == MOST_TRIES and now - times[0] < TRIES_OVER_S

    def wrong(self, address: str, now: float) -> None:
        """Count a wrong token. The address that was wrong first is forgotten where there are too many."""
        if address not in self._wrong and len(self._wrong) >= _MOST_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]
        self._wrong.setdefault(address, deque(maxlen=MOST_TRIES)).append(now)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
