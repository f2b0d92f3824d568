"""The schema of ``reconcile:``: which sides are compared for a platform, how their words are read, what is done."""

from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.schema.reconcile_source import ComparedSource
from relay.config.schema.values import (
    Duration,
    OrText,
    PositiveDuration,
    RateText,
    Section,
    Share,
    Text,
    Texts,
    only_list,
    reading,
    required,
    setting,
)
from relay.config.schema.when import ClockTime


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadValue("E031", f"{quoted(name)} is no time zone", "write a name such as Asia/Shanghai or UTC") from None
    return name


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


class GuardSettings(Section):
    """What is refused because it cannot be right."""

    rows: Share = setting("50%", "A side with fewer rows than this share of its last run is refused. 0%: never.")
    max_repairs: Annotated[int, Field(ge=0)] = setting(500, "More repairs than this in one run are refused.")


class AutoRepair(Section):
    """Repairs that need nobody's word."""

    kinds: Annotated[tuple[Literal["missing", "behind"], ...], BeforeValidator(only_list), Field(min_length=1)] = (
        setting(["missing", "behind"], "Kinds that are repaired.")
    )
    max: Annotated[int, Field(ge=1)] = required("With more of them none is repaired, and the alert says so.")


def _repair_word(value: Any) -> Any:
    if value == "propose":
        return {}
    if not isinstance(value, dict):
        raise BadValue("E015", f"{quoted(value)} is no way to repair", "write propose, or {auto: {max: 200}}")
    return value


class RepairSettings(Section):
    """What is done about differences: proposed to a person, or some of it by itself."""

    auto: AutoRepair | None = setting(None, "What the daemon repairs by itself after its own runs.")


class ReconcileSettings(Section):
    """How one platform is compared with the order center."""

    at: ClockTime | None = setting(
        None, 'When the daemon compares, daily in `tz`, such as "02:40". Not set: by command only.'
    )
    tz: Annotated[Text, AfterValidator(reading(_zone))] = setting("UTC", "Zone of times without one, and of {date}.")
    span: PositiveDuration = setting("2d", "Orders that changed so lately, on either side, are compared.")
    settle: Duration = setting("30m", "A difference in what changed so lately, on any side, is `unsettled`.")
    carry: Annotated[int, Field(ge=0)] = setting(
        2, "An `unsettled` order is looked at again in so many runs before it counts as a difference."
    )
    order_center: ComparedSource = required("Where the order center's orders are read: a file or a query.")
    platform: ComparedSource = required("Where the platform's orders are read: a file, its own pages, or a query.")
    budget: RateText | None = setting(
        None, "Of the platform's limit, at most so many requests for pages and orders; deliveries go first."
    )
    columns: AllColumns = required("Where rows hold what is compared.")
    status_map: StatusMaps = setting({}, "The words of each side in one vocabulary.")
    order: Annotated[Texts, Field(min_length=1)] = required("The statuses in the order in which an order goes on.")
    tolerance: dict[str, float] = setting({}, "By column of `also` (of the order center): how far numbers may differ.")
    stuck: dict[str, PositiveDuration] = setting({}, "By status: longer than that on the order center's side is told.")
    repair: Annotated[RepairSettings, BeforeValidator(reading(_repair_word)), OrText("propose")] = setting(
        {}, "propose: only `relay reconcile --repair` repairs. {auto: {kinds: [...], max: N}}: so does the daemon."
    )
    guard: GuardSettings = setting({}, "What is refused because it cannot be right.")
