"""A change of a platform's settings that is tried on the traffic of the last hour, in virtual time."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Struct, field

from relay.core.raw import JsonObject
from relay.views.moments import Instant, told


class WhatIfJob(Struct, frozen=True, kw_only=True):
    """What the process that computes is given. Times are seconds from the start of the span."""

    platform: str
    file: str  # the configuration in force was read from it: references are relative to it
    configs: Mapping[str, str]  # ``now`` and ``tried``, as text
    arrivals: list[tuple[float, int | None]]  # when, and which key: keys are numbered, their texts stay where they are
    span_s: float
    waiting: int  # callbacks that waited at the start
    limits: list[str]  # what the platform is believed to let through
    answer_s: tuple[float, float]  # least and most


class WhatIfFigures(Struct, frozen=True, kw_only=True):
    """What would come of the traffic under some settings."""

    drained_s: Annotated[
        float | None, told("seconds until nothing waited, from the end of the span; null: something stays")
    ]
    left: Annotated[int, told("callbacks that waited at the end of the span")]
    backlog_peak: Annotated[int, told("most callbacks that waited at once")]
    p50_s: Annotated[float | None, told("half of the callbacks reached the platform in this time, in seconds")]
    p99_s: Annotated[float | None, told("99 of 100 callbacks did, in seconds")]
    requests_per_min: Annotated[float, told("requests a minute within the span")]
    items_per_request: Annotated[float, told("callbacks of a request, on average")]
    slots_used: Annotated[
        float | None, told("share of the tightest limit used while a full batch waited; null: none did")
    ]
    rejects: Annotated[int, told("requests above the platform's own limit")]
    delivered: Annotated[int, told("callbacks that were delivered in the end")]
    expired: Annotated[int, told("callbacks that came too late")]


class WhatIfResult(Struct, frozen=True, kw_only=True):
    """The answer of the process that computes."""

    figures: Mapping[str, WhatIfFigures]  # as ``configs`` of the job
    assumed: list[str]


class WhatIfView(Struct, frozen=True, kw_only=True):
    """``POST /v1/platforms/{platform}/simulate``: the same traffic under the settings in force, and under others."""

    modelled: Annotated[bool, told("always true: computed, not measured; nothing was sent or changed")] = True
    start: Annotated[Instant, told("the traffic begins with callbacks accepted then")] = field(name="from")
    until: Annotated[Instant, told("the end of the traffic")]
    callbacks: Annotated[int, told("callbacks accepted in between")]
    waiting: Annotated[int, told("callbacks that waited at the start")]
    limits: Annotated[list[str], told("what the platform is believed to let through; empty: everything")]
    assumed: Annotated[list[str], told("what the model assumes, a sentence each")]
    settings: Annotated[JsonObject, told("the settings in force that were changed")]
    changed: Annotated[JsonObject, told("the same as they were tried")]
    now: Annotated[WhatIfFigures, told("under the settings in force")]
    tried: Annotated[WhatIfFigures, told("under those that were tried")]
