"""The schema of ``reconcile:``: which exports are compared for a platform, and how their words are read.

Keys of later steps (queries, paged requests, repairs, the schedule) are refused by name: ``report.translate.LATER``.
"""

from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.schema.values import Duration, PositiveDuration, Section, Text, Texts, reading, required, setting

_FORMS = (".csv", ".jsonl")
_PACKED = (".gz", ".zst")


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


class SideNames(NamedTuple):
    """Where one side's rows hold what is compared."""

    key: str
    status: str
    at: str
    also: tuple[str, ...]


class SideColumns(Section):
    """Where rows hold what is compared: names of CSV columns, JMESPaths into JSON."""

    key: Text | None = setting(None, "What names an order on both sides.")
    status: Text | None = setting(None, "How far the order is.")
    at: Text | None = setting(None, "When it changed last: ISO 8601, or seconds or milliseconds since 1970.")
    also: Texts | None = setting(None, "More values that must be the same, in one order on both sides.")


class AllColumns(SideColumns):
    """The columns of both sides; what a side names itself wins."""

    order_center: SideColumns = setting({}, "Where the order center's export names them differently.")
    platform: SideColumns = setting({}, "Where the platform's export names them differently.")
    relay: SideColumns = setting({}, "Where payloads hold key and status, if not as the order center's export does.")

    @model_validator(mode="after")
    @reading
    def _complete(self) -> "AllColumns":
        for side, own in (("order_center", self.order_center), ("platform", self.platform)):
            for key in ("key", "status", "at"):
                if getattr(own, key) is None and getattr(self, key) is None:
                    what = f"`columns` has no `{key}` for {side}"
                    raise BadValue("E011", what, f"write columns: {{{key}: ...}}")
        return self

    def of_order_center(self) -> SideNames:
        """Return the columns of the order center's export."""
        return self._of(self.order_center)

    def of_platform(self) -> SideNames:
        """Return the columns of the platform's export."""
        return self._of(self.platform)

    def of_relay(self) -> SideNames:
        """Return where payloads hold key and status."""
        center = self.of_order_center()
        return center._replace(key=self.relay.key or center.key, status=self.relay.status or center.status)

    def _of(self, own: SideColumns) -> SideNames:
        also = self.also if own.also is None else own.also
        return SideNames(
            own.key or self.key or "", own.status or self.status or "", own.at or self.at or "", also or ()
        )


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
    columns: AllColumns = required("Where rows hold what is compared.")
    status_map: StatusMaps = setting({}, "The words of each side in one vocabulary.")
    order: Annotated[Texts, Field(min_length=1)] = required("The statuses in the order in which an order goes on.")
    tolerance: dict[str, float] = setting({}, "By column of `also` (of the order center): how far numbers may differ.")
    stuck: dict[str, PositiveDuration] = setting({}, "By status: longer than that on the order center's side is told.")
