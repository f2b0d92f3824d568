"""The schema of one platform: where it is, what it allows, and how callbacks are packed, re-sent and understood."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.reading.presets import parse_preset
from relay.config.schema.allowed.counted import CountedLimits, WindowRates
from relay.config.schema.auth import Auth
from relay.config.schema.connect import Connect
from relay.config.schema.envelope import EnvelopeSetting
from relay.config.schema.item_results import Confirm, ResultsSection
from relay.config.schema.routes import DropInSettings
from relay.config.schema.rules import RuleSection
from relay.config.schema.sign import Sign
from relay.config.schema.values import (
    BackoffRange,
    Duration,
    Headers,
    JmesPath,
    Names,
    OrText,
    PositiveDuration,
    RateText,
    Section,
    Size,
    Url,
    only_list,
    reading,
    required,
    setting,
)
from relay.config.schema.when import Coalesce, ObjectiveSection, SendSection
from relay.core.model import PlatformRules, Quota
from relay.policy.objective import Objective
from relay.wire.payload.target import METHODS


def _parse_method(value: Any) -> str:
    if isinstance(value, str) and (value in METHODS or re.fullmatch(r"\{[^{}]+\}", value)):
        return value
    meant = str(value).upper()
    known = f"choices are {', '.join(METHODS)}, or a field of the callback in braces"
    hint = f"did you mean {meant!r}?" if meant in METHODS else known
    raise BadValue("E015", f"{quoted(value)} is not a method", hint)


def _breaker_word(value: Any) -> Any:
    if value == "off":
        return None
    if value is False:
        raise BadValue("E015", "false is not a breaker", "write breaker: off")
    return value


def _learn_word(value: Any) -> Any:
    if value is not True and value is not False and value != "observe":
        meant = {"off": "false", "no": "false", "on": "true", "yes": "true", "enforce": "true"}.get(str(value).lower())
        hint = f"did you mean {meant}? " if meant else ""
        raise BadValue("E015", f"{quoted(value)} is not a choice", f"{hint}choices are true, observe, false")
    return value


Method = Annotated[
    str,
    PlainValidator(reading(_parse_method)),
    WithJsonSchema({"anyOf": [{"enum": list(METHODS)}, {"type": "string", "pattern": r"^\{[^{}]+\}$"}]}),
]
PresetName = Annotated[str, PlainValidator(reading(parse_preset)), WithJsonSchema({"type": "string"})]
LearnLimit = Annotated[
    bool | Literal["observe"],
    PlainValidator(reading(_learn_word)),
    WithJsonSchema({"enum": [True, "observe", False]}),
]


class BatchLimits(Section):
    """How many callbacks may share one request."""

    max_items: int = setting(
        100, "Callbacks in one request; more per request saves requests under a limit.", ge=1, le=10_000
    )
    max_bytes: Size = setting(
        "2MiB", "Size of the whole body before compression. A payload that alone exceeds it is refused."
    )
    linger: Duration = setting(
        "0s",
        "Wait this long from the oldest callback for a batch to fill. 0s sends at once when the platform is idle; "
        "while slots are short callbacks gather by themselves.",
    )


class Retry(Section):
    """How often and how fast a callback is sent again."""

    times: int = setting(3, "Re-sends after the first attempt; then the callback is a dead letter.", ge=0, le=1000)
    backoff: BackoffRange = setting(
        "2s..10m", "First and longest wait; each wait doubles and is drawn from the upper half of [0, wait]."
    )


class BreakerSection(Section):
    """When to stop trying a platform that is down, and how often to look."""

    open_after: int = setting(5, "Platform-level failures in a row that open the breaker.", ge=1, le=1000)
    probe_every: PositiveDuration = setting("30s", "While open, one real batch is tried this often.")


class PlatformSettings(CountedLimits):
    """Every key of a platform but its URL; `defaults` takes the same ones."""

    preset: PresetName | None = setting(
        None,
        "Start from what is known of a platform (`relay presets` lists them); whatever stands here overrides it, "
        "and it overrides `defaults`.",
    )
    method: Method = setting(
        "POST", "The HTTP method; with an envelope of one callback also a field of it, such as {verb}."
    )
    headers: Headers = setting(
        {},
        "Extra request headers, such as Authorization with a ${file:...} reference; a Content-Type replaces ours.",
    )
    rate: WindowRates = setting(
        [],
        "Requests allowed: 100/min, or a list such as [10/s, 100/min] that must all hold. Strict: never more arrive in "
        "any window. Units s, min, h, day, or a duration; 100000/day@+08:00 counts from midnight there (also hour, "
        "month). Not set: no limit but the ones learned.",
    )
    burst: Annotated[int, Field(ge=1)] | None = setting(
        None, "Requests at most back to back, then the pace window/N. Not set: as many as the rate has free."
    )
    quotas: Names = setting([], "Names of shared quotas (top-level `quotas`) this platform also counts against.")
    share: int = setting(
        1, "Of a shared quota: so many requests go for one of a platform with share 1, while both wait.", ge=1, le=100
    )
    group_share: dict[str, Annotated[int, Field(ge=1, le=100)]] = setting(
        {}, 'The same among the groups of this platform: {"17": 3}. A group that is not named has 1.'
    )
    concurrency: int = setting(
        4,
        "Requests in flight at most; fewer while answers come slower for it, and one at first after a stop. 1 keeps "
        "even different keys one after the other.",
        ge=1,
        le=1000,
    )
    timeout: PositiveDuration = setting(
        "10s", "For the whole request; then the attempt is ambiguous and the same batch goes again."
    )
    batch: BatchLimits = setting({}, "How many callbacks may share one request.")
    envelope: EnvelopeSetting = setting(
        "array",
        "How payloads become a body: array (a JSON array), ndjson (one per line), single (one per request, as is), "
        "cloudevents; or a mapping {kind: object, items_at: orders}.",
    )
    compress: Literal["none", "gzip", "zstd"] = setting(
        "gzip",
        "Compression of bodies from 1 KiB on; a platform that cannot read it (415; 400, 500 at first) gets plain ones.",
    )
    key: JmesPath | None = setting(
        None,
        "JMESPath into the payload for the ordering key, such as order_id; the Relay-Key header wins. Not set: none.",
    )
    group: JmesPath | None = setting(
        None,
        "JMESPath into the payload for the group, such as shop_id: a batch holds one group, groups take turns, and a "
        "throttle stops one group. A payload without it is a dead letter. Not set: no groups.",
    )
    coalesce: Coalesce = setting(
        "none",
        "latest: a newer callback of a key supersedes older ones not yet in a batch. For stock, not for payments. "
        "{mode: latest, quiet: 5s, max: 30s} also waits until the key is quiet.",
    )
    send: SendSection | None = setting(
        None, 'Hours of the day, {between: ["08:00", "22:00"], tz: Asia/Shanghai}; outside nothing goes. Not set: any.'
    )
    objective: ObjectiveSection | None = setting(
        None,
        "How late callbacks may be: {within: 90s, share: 99%}. It is watched and told of; nothing is sent otherwise "
        "for it. Not set: nobody said.",
    )
    expires: PositiveDuration = setting(
        "24h", "A callback not delivered by then ends as expired; the Relay-Expires header wins."
    )
    retry: Retry = setting({}, "How often and how fast a callback is sent again.")
    on_dead: Literal["skip", "block"] = setting(
        "skip", "What a dead callback does to later ones of its key: skip lets them go, block holds them for a person."
    )
    breaker: Annotated[BreakerSection | None, BeforeValidator(reading(_breaker_word)), OrText("off")] = setting(
        {}, "When to stop trying a platform that is down; off leaves it to the retry budget alone."
    )
    learn_limit: LearnLimit = setting(
        True,
        "Find a limit that is not configured, from refusals or from what the platform declares in its answers: true "
        "enforces it, observe only shows it, false does neither.",
    )
    learn_floor: RateText | None = setting(
        None, "A learned limit below this rate, such as 10/min, is never enforced. Not set: one request per window."
    )
    classify: Annotated[tuple[RuleSection, ...], BeforeValidator(only_list)] = setting(
        [], "Ordered rules for what an answer means, for platforms that say 200 and put the error in the body."
    )

    results: ResultsSection | None = setting(
        None, "Where an answer says what became of each callback; not set: an answer is about the whole batch."
    )
    confirm: Confirm | None = setting(
        None,
        "A request that asks what became of one callback; not set: what no rule recognises is held for a person.",
    )
    accept: DropInSettings | None = setting(
        None, "A path of the ingest listener that takes callbacks for this platform and answers as it would itself."
    )
    connect: Connect = setting({}, "How requests leave this machine: proxy, private CA, client certificate, source.")
    auth: Auth | None = setting(
        None,
        "What lets us in: kind bearer, basic, query (a fixed token) or oauth2 (a fetched one), or {use: NAME} of the "
        "top-level `credentials`.",
    )
    sign: Sign | None = setting(
        None, "How requests are signed, anew for each attempt: kind standard-webhooks, hmac, sorted or rfc9421."
    )

    @property
    def kept_objective(self) -> Objective | None:
        """The objective as it is counted: hours in which nothing may be sent do not count."""
        if self.objective is None:
            return None
        return Objective(self.objective.within, self.objective.share, self.send.hours if self.send else None)

    @model_validator(mode="after")
    def _single_goes_alone(self) -> "PlatformSettings":
        """An envelope of one callback carries one, whatever `batch.max_items` says for the other platforms."""
        if self.envelope.goes_alone and self.batch.max_items != 1:
            self.__dict__["batch"] = self.batch.model_copy(update={"max_items": 1})
        return self


class PlatformDefaults(PlatformSettings):
    """What every platform starts from; mappings are merged, everything else is replaced."""

    url: Url | None = setting(None, "A URL for every platform that names none.")


class PlatformSection(PlatformSettings):
    """One destination with its own limits, packing, retries and queue."""

    url: Url = required(
        "Where requests go: http or https, without credentials in it. With an envelope of one callback its path and "
        "query may use {key}, {id}, {event} and {JMESPath into the payload}."
    )

    def private_quota(self, name: str) -> Quota | None:
        """Return the quota that only this platform, called ``name``, counts against."""
        limits = (*self.rate, *self.counted)
        return Quota(f"platform:{name}", limits, self.burst) if limits else None

    def rules(self, name: str) -> PlatformRules:
        """Return what the store must know of this platform, called ``name``."""
        private = (f"platform:{name}",) if self.rate or self.counted else ()
        return PlatformRules(
            quotas=(*private, *self.quotas),
            coalesce=self.coalesce.mode == "latest",
            block_on_dead=self.on_dead == "block",
            quiet_s=self.coalesce.quiet,
            gather_s=self.coalesce.max if self.coalesce.quiet else 0.0,
            share=self.share,
            group_share=self.group_share,
        )
