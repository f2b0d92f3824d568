"""Numbers and times as a person reads them: ``2m29s``, ``12:02:11 (3m ago)``."""

from datetime import datetime
from itertools import pairwise

from relay.cli.words.sentences import say
from relay.core.model import window_text

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def duration(seconds: float | None) -> str:
    """Return at most two units, ``-`` for None: ``0s``, ``812ms``, ``2m29s``, ``3h05m``."""
    if seconds is None:
        return "-"
    if 0 < seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    whole = round(seconds)
    for (size, unit), (next_size, next_unit) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size}{unit}{rest:02d}{next_unit}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def moment(at: float | None, *, now: float) -> str:
    """Return an answer's time in the local zone, with that zone and its distance from ``now`` (since the epoch).

    ``02:33:25 UTC (in 40s)``, ``10:33:25 +08:00 (3m ago)``.
    """
    if at is None:
        return "-"
    local, today = datetime.fromtimestamp(round(at)).astimezone(), datetime.fromtimestamp(now).astimezone()
    clock = local.strftime("%H:%M:%S" if local.date() == today.date() else "%Y-%m-%d %H:%M:%S")
    return f"{clock} {zone(local)} ({distance(at, now=now)})"


def clock(at: float) -> str:
    """Return the time of day in the local zone: ``11:30``."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M")


def zone(local: datetime) -> str:
    """Return a time's zone: ``UTC`` or ``+08:00``. A name such as CST means several zones."""
    offset = local.isoformat()[-6:]
    return "UTC" if offset == "+00:00" else offset


def distance(at: float, *, now: float) -> str:
    """Return ``3m ago``, ``in 18s`` or ``now``."""
    away_s = at - now
    if abs(away_s) < 1:
        return say("now")
    whole = duration(round(abs(away_s)))
    return say("in {span}", span=whole) if away_s > 0 else say("{span} ago", span=whole)


def size(count: float) -> str:
    """Return bytes as people say them: ``4.1 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def window(seconds: float) -> str:
    """Return a quota window as the configuration writes it: ``s``, ``min``, ``h``, ``day``, ``90s``."""
    return window_text(float(seconds))
