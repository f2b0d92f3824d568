"""The configuration as operators see and change it: effective and masked, validated, reloaded.

Loading and swapping belong to the daemon and arrive as callables.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relay.admin.audit import Audit
from relay.admin.call import Call, flag, object_body
from relay.admin.standing.times import WallTimes
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer


@dataclass(frozen=True, slots=True)
class RefusedReload:
    """The last reload, where it was refused: when (relay clock), how many problems, and the command that names them."""

    at: float
    problems: int
    todo: str


@dataclass(frozen=True, slots=True)
class ConfigAccess:
    """What the daemon lets the admin side do with its configuration.

    ``effective()`` is the configuration in force, secrets masked: ``file``, ``config`` as the file is nested, and
    ``origins`` by dotted path. ``validate(text)`` returns all problems of a configuration (None: the file on disk) as
    ``file:line:col: code message``. ``reload(dry_run, force)`` loads the file and puts it in force, returning
    ``applied``, ``changes``, ``problems``, the platforms ``added``, and how many callbacks wait for each one
    ``removed``; a file with problems changes nothing. ``reload`` is None where nothing can swap a configuration.
    ``refused()`` is the last reload if it was refused, else None.
    """

    effective: Callable[[], Mapping[str, Any]]
    refused: Callable[[], RefusedReload | None]
    validate: Callable[[str | None], Awaitable[Sequence[str]]]
    reload: Callable[[bool, bool], Awaitable[Mapping[str, Any]]] | None = None


def setting(effective: Mapping[str, Any], platform: str, key: str) -> Any:
    """Return what an ``effective()`` configuration says of a platform's ``key``; None for an unknown platform."""
    return effective.get("config", {}).get("platforms", {}).get(platform, {}).get(key)


class ConfigRoutes:
    """The routes about the configuration."""

    def __init__(self, *, config: ConfigAccess, audit: Audit, times: WallTimes) -> None:
        self._config = config
        self._audit = audit
        self._times = times

    async def show(self, call: Call) -> Response:
        """GET /v1/config. Viewers may see it, so a refused reload is counted here and its problems are not named."""
        refused = self._config.refused()
        told = None if refused is None else self._times.told(asdict(refused))
        return json_answer({**self._config.effective(), "refused_reload": told})

    async def validate(self, call: Call) -> Response:
        """POST /v1/config/validate: the YAML in the body, or the file on disk when the body is empty."""
        try:
            text = call.body.decode()
        except UnicodeDecodeError as error:
            raise Refusal("invalid_request", f"the body is not UTF-8: {error}") from error
        problems = list(await self._config.validate(text if text.strip() else None))
        return json_answer({"valid": not problems, "problems": problems})

    async def reload(self, call: Call) -> Response:
        """POST /v1/config/reload."""
        body = object_body(call.body, allowed=("dry_run", "force", "reason"))
        if self._config.reload is None:
            raise Refusal("not_supported", "this daemon does not reload its configuration; restart it")
        dry_run, force = flag(body, "dry_run"), flag(body, "force")
        if not dry_run:
            await self._audit.record(call.who, "config.reload", "config", reason=body.get("reason", ""), force=force)
        result = dict(await self._config.reload(dry_run, force))
        if result.get("problems"):
            raise Refusal("invalid_config", "nothing was changed: the file has problems", problems=result["problems"])
        return json_answer(result)
