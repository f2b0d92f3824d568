"""What no single value of ``privacy.views`` shows: views that there are none of, and paths that never decide."""

from collections.abc import Iterator

from relay.config.problems import BadValue, nearest, quoted
from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted
from relay.config.schema.file import Config
from relay.privacy.views import Path


def view_contradictions(config: Config) -> Iterator[PlacedProblem]:
    """Yield the users whose view there is not."""
    for index, user in enumerate(config.admin.users):
        if user.view is not None and user.view not in config.privacy.views:
            path: KeyPath = ("admin", "users", index, "view")
            hint = nearest(user.view, config.privacy.views) or "add it under `privacy.views:`"
            what = f"{dotted(path)}: there is no view {quoted(user.view)}"
            yield PlacedProblem(path, BadValue("E057", what, hint), False, (path, ("privacy", "views", user.view)))


def view_warnings(config: Config) -> Iterator[PlacedProblem]:
    """Yield each path of a view that an earlier list decides: ``{show: [receiver], mask: [receiver.phone]}``."""
    for name, view in config.privacy.views.items():
        earlier: list[tuple[str, Path]] = []
        for rule in view.rules:
            covers = next((place for place, path in earlier if _covers(path, rule.path)), None)
            if covers is not None and covers != rule.shade:
                where: KeyPath = ("privacy", "views", name, str(rule.shade))
                shown = ".".join(rule.path)
                what = f"{dotted(where)}: {shown} never decides, as {covers} stands before it and fits"
                yield PlacedProblem(where, BadValue("W014", what, f"put {rule.shade} before {covers}"), True, (where,))
            earlier.append((str(rule.shade), rule.path))


def _covers(path: Path, other: Path) -> bool:
    return len(path) <= len(other) and all(mine in (theirs, "*") for mine, theirs in zip(path, other, strict=False))
