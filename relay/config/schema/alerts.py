"""The schema of ``alerts``: who is told (targets), of what (rules), and when not (quiet)."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from relay.config.problems import BadValue
from relay.config.reading.presets import preset
from relay.config.schema.auth import Auth
from relay.config.schema.connect import Connect
from relay.config.schema.envelope import EnvelopeSetting
from relay.config.schema.platform import PlatformSection
from relay.config.schema.values import (
    Duration,
    Headers,
    Name,
    Names,
    OrText,
    PlainUrl,
    PositiveDuration,
    Rates,
    SecretText,
    Section,
    Size,
    Texts,
    kind_or_use,
    reading,
    required,
    setting,
)
from relay.config.schema.when import ClockTime, Zone

_ALERTS_PATH = "/api/v2/alerts"
_NOBODY = "http://apprise.invalid/"  # apprise has its own addresses; a queue wants one
# A message an hour old is history: the alert itself repeats, and is shown by `relay alerts`.
_COMMON: dict[str, Any] = {"learn_limit": False, "expires": "1h", "retry": {"times": 5, "backoff": "2s..2m"}}


def _off(value: Any) -> Any:
    if value == "off":
        return None
    if value is False:
        raise BadValue("E015", "false is not a choice", "write off")
    return value


Repeat = Annotated[PositiveDuration | None, BeforeValidator(reading(_off)), OrText("off")]
Language = Literal["en", "zh-CN"]

_LANG = "The language of its messages."


class _Robot(Section):
    """What the robots of groups share."""

    url: PlainUrl = required("The webhook's URL, which lets us in: use a ${file:...} reference.")
    lang: Language = setting("zh-CN", _LANG)
    rate: Rates = setting("18/min", "Messages allowed; more become one digest.")
    timeout: PositiveDuration = setting("10s", "For one message.")
    connect: Connect = setting({}, "How requests leave this machine: proxy, private CA, source.")

    def _stated(self) -> dict[str, Any]:
        given = {"url": self.url, "rate": [str(rate) for rate in self.rate], "connect": self.connect}
        return {**_COMMON, **given, "timeout": f"{self.timeout}s"}


class DingTalkTarget(_Robot):
    """A custom robot of a DingTalk group."""

    kind: Literal["dingtalk"] = required("Always `dingtalk`: says which form this is.")
    secret: SecretText | None = setting(
        None, "The secret of the robot's signature (SEC...). Not set: it is protected by keywords or addresses."
    )

    @cached_property
    def platform(self) -> PlatformSection:
        """The platform that it is to delivery."""
        return _of_preset("dingtalk-robot", self._stated(), self.secret)


class WeComTarget(_Robot):
    """A robot of a WeCom group."""

    kind: Literal["wecom"] = required("Always `wecom`: says which form this is.")

    @cached_property
    def platform(self) -> PlatformSection:
        """The platform that it is to delivery."""
        return _of_preset("wecom-robot", self._stated(), None)


class FeishuTarget(_Robot):
    """A custom robot of a Feishu or Lark group."""

    kind: Literal["feishu"] = required("Always `feishu`: says which form this is.")
    secret: SecretText | None = setting(
        None, "The secret of the robot's signature. Not set: it is protected by keywords or addresses."
    )

    @cached_property
    def platform(self) -> PlatformSection:
        """The platform that it is to delivery."""
        return _of_preset("feishu-robot", self._stated(), self.secret)


class AlertmanagerTarget(Section):
    """A Prometheus Alertmanager; what fires is told again every minute, as it expects."""

    kind: Literal["alertmanager"] = required("Always `alertmanager`: says which form this is.")
    url: PlainUrl = required("Where it is, such as http://127.0.0.1:9093.")
    lang: Language = setting("en", "The language of its annotations.")
    headers: Headers = setting({}, "Extra request headers.")
    auth: Auth | None = setting(None, "What lets us in, as for a platform.")
    timeout: PositiveDuration = setting("10s", "For one request.")
    connect: Connect = setting({}, "How requests leave this machine: proxy, private CA, source.")

    @cached_property
    def platform(self) -> PlatformSection:
        """The platform that it is to delivery."""
        url = self.url if self.url.endswith(_ALERTS_PATH) else self.url.rstrip("/") + _ALERTS_PATH
        given = {"url": url, "headers": dict(self.headers), "connect": self.connect, "timeout": f"{self.timeout}s"}
        return PlatformSection.model_validate({**preset("alertmanager").platform, **_COMMON, **given})


class WebhookTarget(PlatformSection):
    """Any receiver of JSON, one alert per request; every key of a platform holds here too."""

    kind: Literal["webhook"] = required("Always `webhook`: says which form this is.")
    lang: Language = setting("en", _LANG)
    envelope: EnvelopeSetting = setting("single", "How alerts become a body; see the platforms' envelope.")
    compress: Literal["none", "gzip", "zstd"] = setting("none", "Compression of bodies from 1 KiB on.")
    expires: PositiveDuration = setting("1h", "A message not delivered by then is given up.")
    learn_limit: Literal[False] = setting(False, "Always false: alerts are too few to learn from.")

    @model_validator(mode="after")
    @reading
    def _of_its_own(self) -> "WebhookTarget":
        """Refuse what would not hold: alerts have a queue of their own, and share nothing with the platforms."""
        if self.preset is not None:
            raise BadValue(
                "E051", "a preset is not read here", "write its keys: relay presets show NAME", at=("preset",)
            )
        for key in ("quotas", "accept"):
            if getattr(self, key):
                raise BadValue("E051", f"{key} is not shared with alerts", "write rate: N/min", at=(key,))
        return self

    @property
    def platform(self) -> PlatformSection:
        """The platform that it is to delivery."""
        return self


class AppriseTarget(Section):
    """Mail, SMS and a hundred others, through the library apprise (extra `alerts`)."""

    kind: Literal["apprise"] = required("Always `apprise`: says which form this is.")
    url: SecretText = required("An address as apprise writes it, such as mailto://...; use a ${file:...} reference.")
    lang: Language = setting("en", _LANG)
    rate: Rates = setting("18/min", "Messages allowed; more become one digest.")
    timeout: PositiveDuration = setting("30s", "For one message.")

    @cached_property
    def platform(self) -> PlatformSection:
        """The platform that it is to delivery."""
        given = {"url": _NOBODY, "rate": [str(rate) for rate in self.rate], "timeout": f"{self.timeout}s"}
        return PlatformSection.model_validate({**_COMMON, **given, "envelope": "single", "compress": "none"})


def _of_preset(name: str, given: dict[str, Any], secret: str | None) -> PlatformSection:
    stated = {**preset(name).platform, **given}
    sign = stated.pop("sign", None)
    if secret is not None:
        stated["sign"] = {**sign, "secret": secret}
    return PlatformSection.model_validate(stated)


AlertTarget = Annotated[
    Annotated[DingTalkTarget, Tag("dingtalk")]
    | Annotated[WeComTarget, Tag("wecom")]
    | Annotated[FeishuTarget, Tag("feishu")]
    | Annotated[AlertmanagerTarget, Tag("alertmanager")]
    | Annotated[WebhookTarget, Tag("webhook")]
    | Annotated[AppriseTarget, Tag("apprise")],
    Discriminator(kind_or_use),
]
AnyTarget = DingTalkTarget | WeComTarget | FeishuTarget | AlertmanagerTarget | WebhookTarget | AppriseTarget

_REPEAT = "Told again this often while it lasts; off: told once."


class AlertRule(Section):
    """What every rule has."""

    to: Names | None = setting(None, "Names of targets. Not set: those of `default_to`.")
    repeat: Repeat = setting("1h", _REPEAT)
    digest: Duration = setting("0s", "After a message, gather for so long what else the rule finds.")


class LateRule(AlertRule):
    """The oldest due callback waits too long while nothing goes."""

    oldest_due: PositiveDuration = setting("5m", "How long the oldest callback may have been due.")


class DeadLettersRule(AlertRule):
    """A group of dead letters is new, ten times as large, or back after a day."""

    above: int = setting(0, "Dead letters of a platform that are nobody's worry.", ge=0)
    repeat: Repeat = setting("off", _REPEAT)
    digest: Duration = setting("10m", "After a message, gather for so long what else the rule finds.")


class HeldRule(AlertRule):
    """Callbacks are held for a person."""

    above: int = setting(0, "Held callbacks of a platform that are nobody's worry.", ge=0)
    repeat: Repeat = setting("4h", _REPEAT)
    digest: Duration = setting("10m", "After a message, gather for so long what else the rule finds.")


class LastingRule(AlertRule):
    """Something that often mends itself in a moment."""

    after: Duration = setting("1m", "Told when it lasts longer.")


class ExpiringRule(LastingRule):
    """The backlog takes longer to drain than its callbacks live."""

    repeat: Repeat = setting("4h", _REPEAT)


class ObjectiveRule(AlertRule):
    """More callbacks of the last hour were late than the platform's `objective` allows."""

    burns: float = setting(2.0, "How many times as many as may be.", gt=0, le=1000)
    repeat: Repeat = setting("4h", _REPEAT)


class OnceRule(AlertRule):
    """Something to know once."""

    repeat: Repeat = setting("off", _REPEAT)


class StoreFullRule(AlertRule):
    """The store fills up."""

    above: int = setting(80, "Percent of what posts may use.", ge=1, le=100)


class StoreFailedRule(AlertRule):
    """The store cannot commit."""

    repeat: Repeat = setting("10m", _REPEAT)


class DiskFullRule(AlertRule):
    """The disk of the store fills up."""

    free: Size = setting("512MiB", "Room that must be left for others than the superuser.")


class RareRule(AlertRule):
    """Something that waits for a person and is not urgent."""

    repeat: Repeat = setting("4h", _REPEAT)


class ClockStepRule(AlertRule):
    """The wall clock was set while the relay ran."""

    step: PositiveDuration = setting("5s", "How far it must have been moved.")
    repeat: Repeat = setting("off", _REPEAT)


class CertificateRule(AlertRule):
    """A client certificate ends soon."""

    within: PositiveDuration = setting("14d", "How long before its end it is told.")
    repeat: Repeat = setting("1d", _REPEAT)


class ReconcileRule(AlertRule):
    """Both sides differ, or were not compared."""

    above: int = setting(0, "Differences of a platform, `unsettled` aside, that are nobody's worry.", ge=0)
    repeat: Repeat = setting("1d", _REPEAT)


def _rule(about: str, name: str) -> Any:
    return Field(default={}, validate_default=True, description=f"{about} off switches it off.", alias=name)


_Off = BeforeValidator(reading(_off))
_OR_OFF = OrText("off")


class AlertRules(Section):
    """The built-in rules; a name that stands here changes that rule, and `off` switches it off."""

    late: Annotated[LateRule | None, _Off, _OR_OFF] = _rule("The oldest callback waits while nothing goes.", "late")
    expiring: Annotated[ExpiringRule | None, _Off, _OR_OFF] = _rule("A backlog outlives its callbacks.", "expiring")
    objective: Annotated[ObjectiveRule | None, _Off, _OR_OFF] = _rule(
        "Twice as many callbacks are late as the platform's objective allows.", "objective"
    )
    dead_letters: Annotated[DeadLettersRule | None, _Off, _OR_OFF] = _rule("Callbacks were given up.", "dead-letters")
    held: Annotated[HeldRule | None, _Off, _OR_OFF] = _rule("Callbacks wait for a person.", "held")
    sealed: Annotated[OnceRule | None, _Off, _OR_OFF] = _rule("Sealed payloads do not open.", "sealed")
    broken: Annotated[LastingRule | None, _Off, _OR_OFF] = _rule("A platform is down.", "broken")
    limit_learned: Annotated[OnceRule | None, _Off, _OR_OFF] = _rule(
        "A limit is enforced that no configuration states.", "limit-learned"
    )
    store_full: Annotated[StoreFullRule | None, _Off, _OR_OFF] = _rule("The store fills up.", "store-full")
    store_failed: Annotated[StoreFailedRule | None, _Off, _OR_OFF] = _rule("The store cannot commit.", "store-failed")
    store_damaged: Annotated[AlertRule | None, _Off, _OR_OFF] = _rule("The store's file is damaged.", "store-damaged")
    disk_full: Annotated[DiskFullRule | None, _Off, _OR_OFF] = _rule("The store's disk fills up.", "disk-full")
    reload_failed: Annotated[RareRule | None, _Off, _OR_OFF] = _rule("A reload was refused.", "reload-failed")
    clock_step: Annotated[ClockStepRule | None, _Off, _OR_OFF] = _rule("The wall clock was set.", "clock-step")
    unaccounted: Annotated[AlertRule | None, _Off, _OR_OFF] = _rule("The ledger does not add up.", "unaccounted")
    certificate: Annotated[CertificateRule | None, _Off, _OR_OFF] = _rule(
        "A client certificate ends soon.", "certificate"
    )
    token: Annotated[LastingRule | None, _Off, _OR_OFF] = _rule("There is no token to be had.", "token")
    hosts: Annotated[LastingRule | None, _Off, _OR_OFF] = _rule(
        "Of the hosts that share a store one is gone or has another file, or none sends for a platform.", "hosts"
    )
    acceptors: Annotated[LastingRule | None, _Off, _OR_OFF] = _rule(
        "Processes that take posts in end again and again, or do not answer.", "acceptors"
    )
    reveals: Annotated[OnceRule | None, _Off, _OR_OFF] = _rule("Somebody wants to see too many payloads.", "reveals")
    reconcile: Annotated[ReconcileRule | None, _Off, _OR_OFF] = _rule(
        "A comparison found differences, failed, was incomplete or did not happen.", "reconcile"
    )

    def by_name(self) -> dict[str, AlertRule]:
        """Return the rules that are on, by the names they have in the file."""
        fields = type(self).model_fields.items()
        found = {field.alias or name: getattr(self, name) for name, field in fields}
        return {name: rule for name, rule in found.items() if rule is not None}


RULE_NAMES = tuple(field.alias or name for name, field in AlertRules.model_fields.items())


class QuietHours(Section):
    """When nobody is told of what can wait for the morning."""

    begin: ClockTime = Field(alias="from", description='Beginning, such as "23:00".')
    to: ClockTime = required('End, such as "07:00"; before the beginning: of the next day.')
    tz: Zone = setting("UTC", "The zone of these times: a name such as Asia/Shanghai, or an offset.")
    except_: Texts = Field(
        default=(),
        alias="except",
        description="Rules that are told all the same, such as [late, store-failed].",
        validate_default=True,
    )


class AlertSettings(Section):
    """Who is told when something is wrong."""

    targets: dict[Name, AlertTarget] = setting({}, "Who is told, by name.")
    rules: AlertRules = setting({}, "What is told; the built-in rules hold with these values.")
    default_to: Names | None = setting(None, "Targets of the rules that name none. Not set: all targets.")
    quiet: QuietHours | None = setting(None, "When nobody is told of what can wait. Not set: never.")

    def receivers(self, rule: str) -> tuple[str, ...]:
        """Return the names of the targets that a rule is told to."""
        named = self.rules.by_name()[rule].to
        if named is not None:
            return named
        return tuple(self.targets) if self.default_to is None else self.default_to
