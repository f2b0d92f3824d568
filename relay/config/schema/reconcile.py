"""The schema of ``reconcile:``: which exports are compared for a platform, and how their words are read.

Keys of later steps (queries, paged requests, repairs, the schedule) are refused by name, so that nobody relies on them.
"""

from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.schema.values import Duration, PositiveDuration, Section, Text, Texts, reading, required, setting

_LATER = ("at", "carry", "budget", "repair", "guard", "report")
_LATER_SOURCES = ("sql", "query", "url", "items_at", "next")
_FORMS = (".csv", ".jsonl")
_PACKED = (".gz", ".zst")


def _refuse_later(later: tuple[str, ...]) -> Any:
    def check(value: Any) -> Any:
        for key in later if isinstance(value, dict) else ():
            if key in value:
                raise BadValue("E012", f"`{key}` of reconcile is not built yet", "remove the key")
        return value

    return reading(check)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadValue("E031", f"{quoted(name)} is no time zone", "write a name such as Asia/Shanghai or UTC") from None
    return name


def checked_file(name: str) -> str:
    """Return the name of an export; raise ``BadValue`` if its ending is of a form that cannot be read."""
    plain = name
    for ending in _PACKED:
        plain = plain.removesuffix(ending)
    if not plain.endswith(_FORMS):
        raise BadValue(
            "E031", f"{quoted(name)}: the form is not known by its ending", "csv or jsonl, plain, .gz or .zst"
        )
    return name


class ExportFile(Section):
    """A file that one side wrote."""

    file: Annotated[Text, AfterValidator(reading(checked_file))] = required(
        "csv or jsonl, plain or with .gz or .zst; relative to this file; {date} is the day of the end of the window."
    )
    encoding: Literal["utf-8", "utf-8-sig", "gb18030"] = setting("utf-8", "How its bytes are read.")

    @model_validator(mode="before")
    @classmethod
    def _built(cls, value: Any) -> Any:
        return _refuse_later(_LATER_SOURCES)(value)


class SideColumns(Section):
    """Where a side's rows hold what is compared: names of CSV columns, JMESPaths into JSON."""

    key: Text = required("What names an order on both sides.")
    status: Text = required("How far the order is.")
    at: Text = required("When it changed last: ISO 8601, or seconds or milliseconds since 1970.")
    also: Texts = setting([], "More values that must be the same, in one order on both sides.")


class RelayColumns(Section):
    """Where the payloads of the relay's own callbacks hold the order and its status, as JMESPaths."""

    key: Text = required("What names an order, as in the columns of the order center.")
    status: Text = required("The status that the callback tells.")


class AllColumns(Section):
    """The columns where the sides name them differently."""

    order_center: SideColumns = required("Of the order center's export.")
    platform: SideColumns = required("Of the platform's export.")
    relay: RelayColumns | None = setting(None, "Of the relay's callbacks. Not set: those of the order center.")


def _both(value: Any) -> Any:
    """Write one set of columns out for both sides."""
    if isinstance(value, dict) and "key" in value:
        return {"order_center": value, "platform": value}
    return value


class StatusMaps(Section):
    """The words of each side in one vocabulary. A word of ``order`` needs no entry."""

    order_center: dict[str, Text] = setting({}, "Words of the order center.")
    platform: dict[str, Text] = setting({}, "Words of the platform.")
    relay: dict[str, Text] | None = setting(None, "Words of the callbacks. Not set: those of the order center.")


class ReconcileSettings(Section):
    """How one platform is compared with the order center."""

    tz: Annotated[Text, AfterValidator(reading(_zone))] = setting("UTC", "Zone of times without one, and of {date}.")
    span: PositiveDuration = setting("2d", "Orders that changed so lately, on either side, are compared.")
    settle: Duration = setting("30m", "A difference in what changed so lately, on any side, is `unsettled`.")
    order_center: ExportFile = required("The order center's export.")
    platform: ExportFile = required("The platform's export.")
    columns: Annotated[AllColumns, BeforeValidator(_both)] = required("Where rows hold what is compared.")
    status_map: StatusMaps = setting({}, "The words of each side in one vocabulary.")
    order: Annotated[Texts, Field(min_length=1)] = required("The statuses in the order in which an order goes on.")
    tolerance: dict[str, float] = setting({}, "By column of `also` (of the order center): how far numbers may differ.")
    stuck: dict[str, PositiveDuration] = setting({}, "By status: longer than that on the order center's side is told.")

    @model_validator(mode="before")
    @classmethod
    def _built(cls, value: Any) -> Any:
        return _refuse_later(_LATER)(value)
