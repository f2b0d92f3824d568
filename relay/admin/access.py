"""Who may do what on the admin listener: roles from bearer tokens, nothing by default.

``stats`` sees totals, platforms and charts, and no single callback. ``viewer`` looks, ``operator`` also changes things,
``privacy`` looks, may have payloads revealed and destroys a person's data, ``admin`` does all. What of a payload each
of them sees is said by the user's view (``relay.privacy.views``). With no users configured whoever is on this machine
may do everything but have payloads revealed, and nobody else may do anything.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from relay.web.refusal import Refusal


class Permission(StrEnum):
    """What a route asks for."""

    STATS = "stats"  # how much of what; of no single callback
    VIEW = "view"
    OPERATE = "operate"
    REVEAL = "reveal"  # payloads as they came
    FORGET = "forget"  # a person's data destroyed


_LOOKS = frozenset({Permission.STATS, Permission.VIEW})
_GRANTS = {
    "stats": frozenset({Permission.STATS}),
    "viewer": _LOOKS,
    "operator": _LOOKS | {Permission.OPERATE},
    "privacy": _LOOKS | {Permission.REVEAL, Permission.FORGET},
    "admin": frozenset(Permission),
}
_WITHOUT_USERS = _LOOKS | {Permission.OPERATE, Permission.FORGET}


@dataclass(frozen=True, slots=True)
class User:
    """One of ``admin.users``."""

    name: str
    role: str
    token: str
    view: str | None = None  # what of payloads is seen


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from where, and what is granted."""

    name: str
    role: str
    remote: str
    grants: frozenset[Permission]
    view: str | None = None

    def may(self, permission: Permission) -> bool:
        """Say whether ``permission`` is granted."""
        return permission in self.grants

    def require(self, permission: Permission) -> None:
        """Raise 403 ``forbidden`` unless ``permission`` is granted."""
        if permission not in self.grants:
            able = ", ".join(role for role, grants in _GRANTS.items() if permission in grants)
            raise Refusal("forbidden", f"{self.name} has the role {self.role}; this needs one of: {able} (admin.users)")


class Access:
    """The configured users; ``replace`` puts a reloaded list in force at once."""

    def __init__(self, users: Iterable[User]) -> None:
        self.replace(users)

    def replace(self, users: Iterable[User]) -> None:
        """Take ``users`` instead of the ones before."""
        self._users = [(user, _digest(user.token)) for user in users]

    @property
    def asks(self) -> bool:
        """Whether there are users at all, so that a caller has to prove to be one."""
        return bool(self._users)

    def knows(self, user: User) -> bool:
        """Return whether ``user`` is configured now, with the same role and the same token."""
        return any(user == known for known, _ in self._users)

    def owner(self, token: str) -> User | None:
        """Return whose ``token`` it is, or None."""
        given = _digest(token.strip())
        found: User | None = None
        for user, digest in self._users:  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(digest, given):
                found = user
        return found

    def identify(self, authorization: str | None, *, remote: str, local: bool) -> Caller:
        """Return who sends ``authorization``. ``local``: over loopback or a unix socket.

        Raises 401 ``unauthorized`` for a missing or unknown token, 403 ``forbidden`` for strangers when there are no
        users at all.
        """
        if not self._users:
            if not local:
                raise Refusal(
                    "forbidden", "no admin.users are configured, so only this machine may use the admin listener"
                )
            return Caller("local", "local", remote, _WITHOUT_USERS)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer":
            found = self.owner(token)
            if found is not None:
                return caller(found, remote)
        raise Refusal(
            "unauthorized",
            "send 'Authorization: Bearer' with the token of one of admin.users (the CLI takes it from RELAY_TOKEN)",
        )


def caller(user: User, remote: str) -> Caller:
    """Return ``user`` with what the role grants."""
    return Caller(user.name, user.role, remote, _GRANTS.get(user.role, frozenset()), user.view)


def stranger(remote: str) -> Caller:
    """Return somebody with a token that nobody has."""
    return Caller("?", "none", remote, frozenset())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
