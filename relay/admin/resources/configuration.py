"""The configuration as operators see and change it: effective and masked, validated, reloaded.

Loading and swapping belong to the daemon and arrive as callables.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relay.admin.audit import Audit
from relay.admin.call import Call, flag, object_body
from relay.admin.standing.times import WallTimes
from relay.views.configuration import ConfigView, InForce, PastReloadView, RefusedReloadView, ReloadView, ValidationView
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer


@dataclass(frozen=True, slots=True)
class ConfigAccess:
    """What the daemon lets the admin side do with its configuration.

    ``effective()`` is the configuration in force. ``validate(text)`` returns all problems of a configuration (None: the
    file on disk) as ``file:line:col: code message``. ``reload(dry_run, force, by)`` loads the file and puts it in
    force, for the user ``by``; a file with problems changes nothing. ``reload`` is None where nothing can swap a
    configuration. ``refused()`` is the last reload if it was refused, else None; ``reloads()`` are the last ones,
    newest first.
    """

    effective: Callable[[], InForce]
    refused: Callable[[], RefusedReloadView | None]
    reloads: Callable[[], list[PastReloadView]]
    validate: Callable[[str | None], Awaitable[Sequence[str]]]
    reload: Callable[[bool, bool, str], Awaitable[ReloadView]] | None = None


def setting(in_force: InForce, platform: str, key: str) -> Any:
    """Return what a configuration in force says of a platform's ``key``; None for an unknown platform."""
    return in_force.config.get("platforms", {}).get(platform, {}).get(key)


class ConfigRoutes:
    """The routes about the configuration."""

    def __init__(self, *, config: ConfigAccess, audit: Audit, times: WallTimes) -> None:
        self._config = config
        self._audit = audit
        self._times = times

    async def show(self, call: Call) -> Response:
        """GET /v1/config. Viewers may see it, so a refused reload is counted here and its problems are not named."""
        now = self._config.effective()
        view = ConfigView(
            file=now.file,
            config=now.config,
            origins=now.origins,
            reloads=self._config.reloads(),
            refused_reload=self._config.refused(),
        )
        return self._times.answer(view)

    async def validate(self, call: Call) -> Response:
        """POST /v1/config/validate: the YAML in the body, or the file on disk when the body is empty."""
        try:
            text = call.body.decode()
        except UnicodeDecodeError as error:
            raise Refusal("invalid_request", f"the body is not UTF-8: {error}") from error
        problems = list(await self._config.validate(text if text.strip() else None))
        return json_answer(ValidationView(not problems, problems))

    async def reload(self, call: Call) -> Response:
        """POST /v1/config/reload."""
        body = object_body(call.body, allowed=("dry_run", "force", "reason"))
        if self._config.reload is None:
            raise Refusal("not_supported", "this daemon does not reload its configuration; restart it")
        dry_run, force = flag(body, "dry_run"), flag(body, "force")
        if not dry_run:
            await self._audit.record(call.who, "config.reload", "config", reason=body.get("reason", ""), force=force)
        result = await self._config.reload(dry_run, force, call.who.name)
        if result.problems:
            raise Refusal("invalid_config", "nothing was changed: the file has problems", problems=result.problems)
        return json_answer(result)
