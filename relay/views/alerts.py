"""Alerts as operators see them: what fires, who is told, and what came of a drill."""

from typing import Annotated, Literal

from msgspec import Struct

from relay.views.moments import Instant, told

Sent = Literal["ok", "failed", "dropped"]


class AlertView(Struct, frozen=True, kw_only=True):
    """One alert."""

    rule: Annotated[str, told("the built-in rule that found it")]
    status: Annotated[str, told("firing or resolved")]
    platform: Annotated[str | None, told("what it is about: a platform or credential; null for the relay itself")]
    group: Annotated[str | None, told("the group within, such as the reason of dead letters")]
    since: Annotated[Instant, told("since when it fires")]
    until: Annotated[Instant | None, told("when it was seen last; null while it fires")]
    told_at: Annotated[Instant | None, told("when somebody was told last; null: nobody yet")]
    silenced_until: Annotated[Instant | None, told("until when nobody is told of its rule")]
    summary: Annotated[str, told("what is so")]
    meaning: Annotated[str, told("what it means for whom")]
    todo: Annotated[str, told("the command to run next")]


class LastSent(Struct, frozen=True, kw_only=True):
    """What became of the last message to a target."""

    result: Annotated[Sent, told("ok, failed or dropped")]
    at: Annotated[Instant, told("when that was known")]
    reason: Annotated[str, told("why, in the relay's own words")]


class TargetView(Struct, frozen=True, kw_only=True):
    """One target of alerts."""

    name: Annotated[str, told("as the configuration names it")]
    kind: Annotated[str, told("dingtalk, wecom, feishu, alertmanager, webhook, apprise")]
    waiting: Annotated[int, told("messages on their way to it")]
    last: Annotated[LastSent | None, told("how the last message did; null: there was none since the start")]


class AlertPage(Struct, frozen=True):
    """All that fires, the newest first, then what ended in the last 7 days; and who is told."""

    items: Annotated[list[AlertView], told("all of them")]
    targets: Annotated[list[TargetView], told("all targets")]
    next: Annotated[None, told("always null: there is one page")] = None


class SilenceView(Struct, frozen=True):
    """A rule that nobody is told of for a while."""

    rule: Annotated[str, told("the rule")]
    until: Annotated[Instant, told("until when")]
    reason: Annotated[str, told("why")]


class DrillView(Struct, frozen=True, kw_only=True):
    """What came of a drill."""

    target: Annotated[str, told("who was to be told")]
    arrived: Annotated[bool, told("the target took it")]
    status: Annotated[int | None, told("HTTP status; null without an answer")]
    reason: Annotated[str, told("why, in a few stable words")]
    answer: Annotated[str, told("the start of the answer, without secrets")]
