"""Makes a comparison of what the configuration says of a platform, and where its orders are read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from relay.config.schema.file import Config
from relay.config.schema.protection.privacy import Encrypt, VaultKey
from relay.config.schema.reconcile import SideNames
from relay.config.schema.reconcile_source import ComparedSource
from relay.core.errors import RelayError
from relay.reconcile.job import (
    ComparedSide,
    Comparison,
    FileSource,
    PagedSource,
    RelaySide,
    Source,
    SqlSource,
    StoreKeys,
)

_SQLITE = "sqlite:///"


class Window(NamedTuple):
    """Orders that changed in it are compared; seconds since 1970."""

    since: float
    until: float


class Exports(NamedTuple):
    """Files that take the place of the configured sources."""

    order_center: str | None = None
    platform: str | None = None


NO_EXPORTS = Exports()


class Followed(NamedTuple):
    """What is compared beside the window: orders whose repairs are looked at, and since when those changed."""

    watched: Sequence[str] = ()
    since: float | None = None
    last_found: bool = False  # also what differed in the last run


NOTHING_FOLLOWED = Followed()


def comparison(
    config: Config,
    platform: str,
    *,
    run: str,
    window: Window,
    exports: Exports = NO_EXPORTS,
    followed: Followed = NOTHING_FOLLOWED,
    background: bool = False,
    folder: str,
) -> Comparison:
    """Return what to compare. Raises ``RelayError`` where the platform has no section ``reconcile``."""
    settings = config.reconcile.get(platform)
    if settings is None:
        raise RelayError(f"the configuration has no reconcile.{platform}: docs/reconcile.md shows one")
    day = f"{datetime.fromtimestamp(window.until, ZoneInfo(settings.tz)):%Y-%m-%d}"
    maps, columns = settings.status_map, settings.columns
    relay = columns.of_relay()

    def side(given: ComparedSource, file: str | None, where: SideNames, words: Mapping[str, str]) -> ComparedSide:
        source = _source(given, config.directory, day) if file is None else FileSource(file, given.encoding)
        return ComparedSide(source, where.key, where.status, where.at, list(where.also), words)

    return Comparison(
        run=run,
        platform=platform,
        since=window.since,
        until=window.until,
        settle_s=settings.settle,
        carry=settings.carry,
        keep_s=config.store.keep.delivered,
        tz=settings.tz,
        order=list(settings.order),
        tolerance=settings.tolerance,
        stuck=settings.stuck,
        fewest_rows=settings.guard.rows,
        order_center=side(settings.order_center, exports.order_center, columns.of_order_center(), maps.order_center),
        shown=side(settings.platform, exports.platform, columns.of_platform(), maps.platform),
        relay=RelaySide(
            store=f"sqlite:{config.store_path}" if config.store.url.startswith("sqlite:") else config.store.url,
            key=relay.key,
            status=relay.status,
            status_map=maps.order_center if maps.relay is None else maps.relay,
            opened_with=_keys(config.privacy.encrypt),
            prefix=config.store.prefix,
        ),
        confirms=config.platforms[platform].confirm is not None,
        background=background,
        folder=folder,
        read_since=followed.since,
        follow=followed.last_found,
        watched=list(followed.watched),
    )


def _keys(encrypt: Encrypt | None) -> StoreKeys:
    if encrypt is None:
        return StoreKeys()
    key = encrypt.key
    if isinstance(key, VaultKey):
        return StoreKeys(list(encrypt.previous), (key.url, key.path, key.token))
    return StoreKeys([key, *encrypt.previous])


def _database(sql: str, directory: Path) -> str:
    """Return a database's URL; a relative SQLite file lies beside the configuration, as every other file does."""
    file = sql.removeprefix(_SQLITE)
    if file == sql or not file or file.startswith(("/", ":", "?")):
        return sql
    return f"{_SQLITE}{directory / file}"


def _source(given: ComparedSource, directory: Path, day: str) -> Source:
    if given.file is not None:
        return FileSource(str(directory / given.file.replace("{date}", day)), given.encoding)
    if given.sql is not None:
        return SqlSource(_database(given.sql, directory), given.query or "")
    following = given.next
    return PagedSource(
        url=given.url or "",
        items_at="" if given.items_at is None else given.items_at.expression,
        page=None if following is None else following.page,
        cursor="" if following is None or following.cursor is None else following.cursor.expression,
        param="" if following is None else following.param or "",
        link=following is not None and following.link,
    )
