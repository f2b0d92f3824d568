"""The schema of one side of ``reconcile``: a file it wrote, a query, or pages of a platform's answers."""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.reading.texts import parse_url
from relay.config.schema.values import AnswerPath, Section, Text, reading, setting

_FORMS = (".csv", ".jsonl", ".parquet")
_PACKED = (".gz", ".zst")
_PLACE = re.compile(r"\{[^{}]*\}")
PLACES = ("since", "until", "page")
"""What may stand in braces in the URL of a paged request; ``since`` and ``until`` also with a form: ``{since:s}``."""
FORMS = ("", "s", "ms", "local")
_PLACES_HINT = "use {since}, {since:s}, {since:ms}, {since:local}, the same of until, and {page}"


def checked_file(name: str) -> str:
    """Return the name of an export; raise ``BadValue`` if its ending is of a form that cannot be read."""
    plain = name
    for ending in _PACKED:
        plain = plain.removesuffix(ending)
    if not plain.endswith(_FORMS) or (plain != name and plain.endswith(".parquet")):
        raise BadValue(
            "E031",
            f"{quoted(name)}: the form is not known by its ending",
            "csv or jsonl, plain, .gz or .zst; or parquet",
        )
    return name


def _paged_url(value: Any) -> str:
    parse_url(_PLACE.sub("0", value) if isinstance(value, str) else value)
    url = str(value)
    try:
        places = [(name, form) for _, name, form, _ in Formatter().parse(url) if name is not None]
    except ValueError:
        places = [("?", "")]
    for name, form in places:
        if name not in PLACES or form not in (("",) if name == "page" else FORMS):
            written = f"{{{name}:{form}}}" if form else f"{{{name}}}"
            raise BadValue("E031", f"{written} is nothing that a page is asked for by", _PLACES_HINT)
    return url


class NextPage(Section):
    """How the page after this one is asked for."""

    page: Annotated[int, Field(ge=0)] | None = setting(
        None, "Number of the first page; the URL has {page}. An empty page is the end."
    )
    cursor: AnswerPath | None = setting(None, "JMESPath into the answer: the cursor of the next page; none: the end.")
    param: Text | None = setting(None, "With `cursor`: the query parameter that takes it.")
    link: bool = setting(False, 'true: the header Link names the next page (rel="next"; RFC 8288).')

    @model_validator(mode="after")
    @reading
    def _one_way(self) -> "NextPage":
        ways = [self.page is not None, self.cursor is not None, self.link]
        if sum(ways) != 1 or (self.param is None) != (self.cursor is None):
            raise BadValue("E051", "a next page has one way", "{page: 1}, {cursor: PATH, param: NAME} or {link: true}")
        return self


class ComparedSource(Section):
    """Where one side's orders are read: exactly one of ``file``, ``sql`` and ``url``."""

    file: Annotated[Text, AfterValidator(reading(checked_file))] | None = setting(
        None,
        "csv or jsonl, plain or with .gz or .zst, or parquet; relative to this file; {date} is the day of the end of "
        "the window.",
    )
    encoding: Literal["utf-8", "utf-8-sig", "gb18030"] = setting("utf-8", "How a file's bytes are read.")
    sql: Text | None = setting(
        None, "A database: sqlite:///FILE, postgresql+psycopg://USER@HOST/DB, mysql+pymysql://USER@HOST/DB."
    )
    query: Text | None = setting(
        None, "With `sql`: what is asked; :since and :until are times without a zone, in `tz`. It only reads."
    )
    url: Annotated[str, PlainValidator(reading(_paged_url)), WithJsonSchema({"type": "string"})] | None = setting(
        None,
        "Of the platform: asked through its own auth, sign, headers, classify, connect and limits. {since} and {until} "
        "are ISO 8601 in UTC; {since:s} and {since:ms} since 1970; {since:local} as 2026-11-29 02:40:00 in `tz`.",
    )
    items_at: AnswerPath | None = setting(
        None, "With `url`: JMESPath into the answer: the list of orders. Not set: the answer is the list."
    )
    next: NextPage | None = setting(None, "With `url`: how the next page is asked for. Not set: there is one page.")

    @model_validator(mode="after")
    @reading
    def _one_source(self) -> "ComparedSource":
        given = [name for name in ("file", "sql", "url") if getattr(self, name) is not None]
        if len(given) != 1:
            what = "`" + "` and `".join(given) + "` exclude each other" if given else "there is no source"
            raise BadValue("E051", what, "give one of file, sql and url")
        own: Mapping[str, tuple[str, ...]] = {"file": ("encoding",), "sql": ("query",), "url": ("items_at", "next")}
        for name, keys in own.items():
            for key in keys:
                if name != given[0] and key in self.model_fields_set:
                    raise BadValue("E051", f"`{key}` belongs to `{name}`, not to `{given[0]}`", "remove it")
        if self.sql is not None and self.query is None:
            raise BadValue("E011", "`sql` has no `query`", "add query: select order_no, status, updated_at from ...")
        if self.url is not None and ("{page" in self.url) != (self.next is not None and self.next.page is not None):
            raise BadValue("E051", "{page} in the URL and `next: {page: FIRST}` go together", "give both or neither")
        return self
