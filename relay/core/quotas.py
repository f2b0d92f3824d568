"""Reads the name of a quota: where its limit comes from, and whose it is.

The store keeps a limit that is in no configuration as ``SOURCE:PLATFORM``, or as ``SOURCE:PLATFORM/GROUP`` for one
group: ``learned:shop-a/17``. Names in a configuration have neither colon nor slash (E026). A platform's own ``rate`` is
kept under another word before the colon, so no two names can be confused. A group may hold any character.
"""

CONFIGURED = "configured"
_UNWRITTEN = frozenset(("learned", "declared", "operator"))


def quota_source(name: str) -> str:
    """Return where the limit of the quota comes from: ``configured``, ``learned``, ``declared`` or ``operator``."""
    word, colon, _ = name.partition(":")
    return word if colon and word in _UNWRITTEN else CONFIGURED


def quota_group(name: str) -> str:
    """Return the group whose limit it is; empty for a limit of the whole platform, or of several."""
    return "" if quota_source(name) == CONFIGURED else name.partition("/")[2]


def quota_shared(name: str) -> str:
    """Return the name under which several platforms may share it (``quotas:``); empty for a platform's own."""
    return "" if ":" in name else name
