"""The schema of one platform: where it is, what it allows, and how callbacks are packed, re-sent and understood."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from relay.config.fields import (
    BackoffRange,
    Duration,
    JmesPath,
    Names,
    OrText,
    PositiveDuration,
    Rates,
    Section,
    Size,
    Url,
    only_list,
    reading,
    required,
    setting,
)
from relay.config.problems import BadValue, quoted
from relay.config.rules import Rule
from relay.core.model import PlatformRules, Quota

_OWN_HEADERS = frozenset({"content-length", "content-encoding", "transfer-encoding", "connection"})


def _parse_envelope(value: Any) -> str:
    if isinstance(value, dict):
        kind = f" ({value['kind']})" if isinstance(value.get("kind"), str) else ""
        raise BadValue(
            "E012", f"an envelope given as a mapping{kind} comes with a later version", "use array, ndjson or single"
        )
    if value not in ("array", "ndjson", "single"):
        raise BadValue("E015", f"{quoted(value)} is not an envelope", "choices are array, ndjson, single")
    return str(value)


def _parse_headers(value: dict[str, str]) -> dict[str, str]:
    seen: set[str] = set()
    for name, text in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise BadValue("E029", f"{quoted(name)} is not a header's name")
        if name.lower() in _OWN_HEADERS:
            raise BadValue("E029", f"the relay sets the header {name} itself", "remove it")
        if name.lower() in seen:
            raise BadValue("E029", f"the header {name} is given twice")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text) or text != text.strip():
            raise BadValue("E029", f"the value of header {name} has a line break or white space at its ends")
        seen.add(name.lower())
    return value


def _breaker_word(value: Any) -> Any:
    if value == "off":
        return None
    if value is False:
        raise BadValue("E015", "false is not a breaker", "write breaker: off")
    return value


def _learn_word(value: Any) -> Any:
    if value is not True and value is not False and value != "observe":
        raise BadValue("E015", f"{quoted(value)} is not a choice", "choices are true, observe, false")
    return value


Envelope = Annotated[
    Literal["array", "ndjson", "single"],
    PlainValidator(reading(_parse_envelope)),
    WithJsonSchema({"type": "string", "enum": ["array", "ndjson", "single"]}),
]
Headers = Annotated[dict[str, str], AfterValidator(reading(_parse_headers))]
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


class Breaker(Section):
    """When to stop trying a platform that is down, and how often to look."""

    open_after: int = setting(5, "Platform-level failures in a row that open the breaker.", ge=1, le=1000)
    probe_every: PositiveDuration = setting("30s", "While open, one real batch is tried this often.")


class PlatformSettings(Section):
    """Every key of a platform but its URL; `defaults` takes the same ones."""

    method: Literal["POST", "PUT", "PATCH"] = setting("POST", "The HTTP method.")
    headers: Headers = setting({}, "Extra request headers, such as Authorization with a ${file:...} reference.")
    rate: Rates = setting(
        [],
        "Requests allowed: 100/min, or a list such as [10/s, 100/min] that must all hold. Strict: never more arrive in "
        "any window. Units s, min, h, day, or a duration. Not set: no limit but the ones learned.",
    )
    burst: Annotated[int, Field(ge=1)] | None = setting(
        None, "Requests at most back to back, then the pace window/N. Not set: as many as the rate has free."
    )
    quotas: Names = setting([], "Names of shared quotas (top-level `quotas`) this platform also counts against.")
    concurrency: int = setting(
        4, "Requests in flight at most; 1 keeps even different keys one after the other.", ge=1, le=1000
    )
    timeout: PositiveDuration = setting(
        "10s", "For the whole request; then the attempt is ambiguous and the same batch goes again."
    )
    batch: BatchLimits = setting({}, "How many callbacks may share one request.")
    envelope: Envelope = setting(
        "array",
        "How payloads become a body: array (a JSON array), ndjson (one per line), single (one per request, as is).",
    )
    compress: Literal["none", "gzip", "zstd"] = setting(
        "gzip", "Compression of bodies from 1 KiB on; after a 415 the platform gets plain bodies."
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
    coalesce: Literal["none", "latest"] = setting(
        "none",
        "latest: a newer callback of a key supersedes older ones not yet in a batch. For stock, not for payments.",
    )
    expires: PositiveDuration = setting(
        "24h", "A callback not delivered by then ends as expired; the Relay-Expires header wins."
    )
    retry: Retry = setting({}, "How often and how fast a callback is sent again.")
    on_dead: Literal["skip", "block"] = setting(
        "skip", "What a dead callback does to later ones of its key: skip lets them go, block holds them for a person."
    )
    breaker: Annotated[Breaker | None, BeforeValidator(reading(_breaker_word)), OrText("off")] = setting(
        {}, "When to stop trying a platform that is down; off leaves it to the retry budget alone."
    )
    learn_limit: LearnLimit = setting(
        True,
        "Estimate a limit the platform never declared: true enforces it, observe only shows it, false does neither.",
    )
    classify: Annotated[tuple[Rule, ...], BeforeValidator(only_list)] = setting(
        [], "Ordered rules for what an answer means, for platforms that say 200 and put the error in the body."
    )

    @model_validator(mode="after")
    def _single_goes_alone(self) -> "PlatformSettings":
        """A `single` envelope carries one callback, whatever `batch.max_items` says for the other platforms."""
        if self.envelope == "single" and self.batch.max_items != 1:
            self.__dict__["batch"] = self.batch.model_copy(update={"max_items": 1})
        return self


class PlatformDefaults(PlatformSettings):
    """What every platform starts from; mappings are merged, everything else is replaced."""

    url: Url | None = setting(None, "A URL for every platform that names none.")


class Platform(PlatformSettings):
    """One destination with its own limits, packing, retries and queue."""

    url: Url = required("Where requests go: http or https, without credentials in it.")

    def private_quota(self, name: str) -> Quota | None:
        """Return the quota that only this platform, called ``name``, counts against."""
        return Quota(f"platform:{name}", self.rate, self.burst) if self.rate else None

    def rules(self, name: str) -> PlatformRules:
        """Return what the store must know of this platform, called ``name``."""
        private = (f"platform:{name}",) if self.rate else ()
        return PlatformRules(
            quotas=(*private, *self.quotas), coalesce=self.coalesce == "latest", block_on_dead=self.on_dead == "block"
        )
