"""What a reload changes, a line each, for people."""

from collections.abc import Sequence

from relay.config.effective import as_scalar
from relay.core.plural import count
from relay.views.configuration import ReloadView


def in_words(view: ReloadView, *, hidden: Sequence[str] = ()) -> list[str]:
    """Return a line for each platform added or removed, and for each changed setting of the others.

    ``hidden`` names what differs only in the value of a secret. For example::

        + platforms.shop-b
        ~ platforms.shop-a.rate 100/min -> 200/min
        ~ credentials (a secret's value)
    """
    lines = [f"+ platforms.{name}" for name in view.added]
    for name, waiting in view.removed.items():
        lines.append(f"- platforms.{name}" + (f" ({count(waiting, 'callback')} pending)" if waiting else ""))
    whole = {("platforms", name) for name in (*view.added, *view.removed)}
    for change in view.changes:
        if tuple(change.path.split(".")[:2]) not in whole:
            restart = "  needs a restart" if change.needs_restart else ""
            old, new = ("not set" if value is None else as_scalar(value) for value in (change.old, change.new))
            lines.append(f"~ {change.path} {old} -> {new}{restart}")
    return [*lines, *(f"~ {path} (a secret's value)" for path in hidden)]
