"""The configuration in force and what a reload of its file changes, as operators see them."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Struct

from relay.core.raw import JsonObject
from relay.views.moments import Instant, told


class RefusedReloadView(Struct, frozen=True):
    """The last reload, where it was refused: the configuration before it is still in force."""

    at: Annotated[Instant, told("when it was refused")]
    problems: Annotated[int, told("how many problems the file has")]
    todo: Annotated[str, told("the command that names them")]


class InForce(Struct, frozen=True, kw_only=True):
    """The configuration in force; secrets are masked."""

    file: Annotated[str, told("the file it was read from, with its whole path")]
    config: Annotated[JsonObject, told("every setting, nested as in the file")]
    origins: Annotated[Mapping[str, str], told("where each value comes from, by dotted path")]


class PastReloadView(Struct, frozen=True, kw_only=True):
    """One of the last reloads."""

    at: Annotated[Instant, told("when it ended")]
    by: Annotated[str, told("the user who asked for it; SIGHUP: a signal")]
    result: Annotated[str, told("applied or refused; the configuration before a refused one stayed in force")]
    changes: Annotated[list[str], told("what it changed or would have changed, a line each; secrets are masked")]
    problems: Annotated[int, told("how many problems kept it from being applied")]
    todo: Annotated[str, told("the command that names the problems; empty: there are none")]


class ConfigView(InForce, frozen=True, kw_only=True):
    """The configuration in force, whether the file on disk was refused, and the last reloads."""

    reloads: Annotated[list[PastReloadView], told("the last 20 since the start, newest first")]
    refused_reload: Annotated[RefusedReloadView | None, told("the last reload if it was refused, else null")]


class ConfigVersion(Struct, frozen=True, kw_only=True):
    """Which configuration is in force, and whether the file on disk was refused."""

    file: Annotated[str, told("the file it was read from, with its whole path")]
    version: Annotated[str, told("another one when any setting differs")]
    refused_reload: Annotated[RefusedReloadView | None, told("the last reload if it was refused, else null")]


class ValidationView(Struct, frozen=True):
    """What is wrong with a configuration."""

    valid: Annotated[bool, told("there is nothing wrong")]
    problems: Annotated[list[str], told("each as file:line:col: code message")]


class ChangeView(Struct, frozen=True, kw_only=True):
    """One setting that a reload changes. Secrets are masked."""

    path: Annotated[str, told("dotted: platforms.shop-a.rate")]
    old: Annotated[Any, told("its value in force; null: not set")]
    new: Annotated[Any, told("its value in the file; null: not set")]
    needs_restart: Annotated[bool, told("the new value holds only after a restart")]


class ReloadView(Struct, frozen=True, kw_only=True):
    """What a reload changes, or would change. A file with problems changes nothing."""

    applied: Annotated[bool, told("it is in force now")]
    changes: Annotated[list[ChangeView], told("settings that differ")]
    added: Annotated[list[str], told("platforms that are new")]
    removed: Annotated[dict[str, int], told("platforms that go, and how many callbacks wait for each")]
    problems: Annotated[list[str], told("why it is not put in force")]
