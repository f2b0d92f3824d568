"""The schema of what a platform says about single callbacks: ``results`` in its answers, ``confirm`` when asked."""

import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.reading.texts import parse_jmespath
from relay.config.schema.envelope import check_item
from relay.config.schema.rules import RuleSection
from relay.config.schema.values import AnswerPath, Headers, Section, Url, only_list, reading, required, setting
from relay.core.raw import JsonObject
from relay.wire.answers.results import Results
from relay.wire.payload.target import OWN, read_fact

_OF_OTHER_SHAPE = {"by_index": ("id", "item_id"), "by_id": ("index",)}

Rules = Annotated[tuple[RuleSection, ...], BeforeValidator(only_list)]


def _parse_item_id(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"\{(id|key|event)\}", value):
        return value
    return parse_jmespath(value)


ItemId = Annotated[str, PlainValidator(reading(_parse_item_id)), WithJsonSchema({"type": "string"})]


class ResultsSection(Section):
    """Where an answer says what became of each callback of its batch."""

    shape: Literal["by_index", "by_id"] = required("How an entry names its callback: by its place in the batch, or id.")
    at: AnswerPath = required("JMESPath into the answer: the list of entries, such as failed_records.")
    index: AnswerPath | None = setting(
        None,
        "by_index: where an entry has the place of its callback, from 0. Not set: entries stand in that order.",
    )
    id: AnswerPath | None = setting(None, "by_id: where an entry has the id of its callback.")
    item_id: ItemId | None = setting(
        None,
        "by_id: the same id in the payload, or {id}, {key}, {event} for the callback's own. Not set: as `id`. "
        "A payload without it is refused.",
    )
    failed_if: AnswerPath | None = setting(
        None,
        "An entry in which this is found (not null, false or empty) failed. Not set: every entry is a failed one, or "
        "what `classify` says of it.",
    )
    covers: Literal["failures", "all"] = setting(
        "failures",
        "failures: callbacks that no entry names are delivered where the answer as a whole is ok, or a 400 with "
        "entries. all: every callback has its entry, and one not named is unclear (confirm).",
    )
    classify: Rules = setting(
        [], "Rules for failed entries, as the platform's own but with `path` into the entry; otherwise reject."
    )

    @model_validator(mode="after")
    @reading
    def _consistent(self) -> "ResultsSection":
        """Refuse settings that could never name or judge a callback."""
        if self.shape == "by_id" and self.id is None:
            raise BadValue("E051", "results by_id need `id`, where an entry has the id of its callback", "add id: NAME")
        if self.covers == "all" and self.failed_if is None and not self.classify:
            hint = "add failed_if, or classify rules that say as: ok"
            raise BadValue(
                "E051", "covers: all lists good callbacks too, and nothing tells them from failed ones", hint
            )
        return self

    @property
    def unused(self) -> list[str]:
        """Keys that are set and that this shape does not look at."""
        return [name for name in _OF_OTHER_SHAPE[self.shape] if getattr(self, name) is not None]

    @cached_property
    def compiled(self) -> Results:
        """What reads the results out of answers."""
        by_id = self.shape == "by_id"
        item_id = (self.item_id or str(self.id)) if by_id else "@"
        return Results(
            at=self.at,
            by_id=by_id,
            covers_all=self.covers == "all",
            name_at=self.id if by_id else self.index,
            failed_if=self.failed_if,
            item_id=read_fact(_payload_path(item_id)),
            item_id_name=item_id,
            rules=tuple(rule.compiled for rule in self.classify),
        )


def _payload_path(item_id: str) -> str:
    """Return what ``read_fact`` takes: ``{id}`` is the callback's own id, ``id`` a field of its payload."""
    if item_id.startswith("{"):
        return item_id.strip("{} ")
    return f'"{item_id}"' if item_id in OWN else item_id


class Confirm(Section):
    """A request that asks the platform what became of one callback."""

    url: Url = required("Where to ask; {key}, {id}, {event} and {JMESPath into the payload} are filled in.")
    method: Literal["GET", "POST"] = setting("GET", "The HTTP method.")
    headers: Headers = setting({}, "Headers beside the platform's own, or in their place.")
    body: JsonObject | None = setting(
        None, "POST: the JSON body, names with a JMESPath into the payload each, as `envelope.item`."
    )
    classify: Rules = required(
        "What an answer means for the callback: ok or duplicate (it was applied), retry (it was not), reject; "
        "throttled and auth are about the platform. Anything else leaves the callback to a person."
    )
    ambiguous: bool = setting(
        True,
        "true: ask instead of sending again what may have been applied (timeouts, 5xx). false: only after answers that "
        "no rule recognised.",
    )

    @model_validator(mode="after")
    @reading
    def _consistent(self) -> "Confirm":
        """Refuse a read-back that could never decide anything."""
        if not self.classify:
            raise BadValue(
                "E051", "confirm.classify is empty, so no answer would decide anything", "add a rule, as: ok"
            )
        if self.body is not None and self.method == "GET":
            raise BadValue("E051", "a GET has no body", "write method: POST, or remove the body")
        check_item(self.body or {}, "body")
        return self


def unreachable(rules: tuple[RuleSection, ...]) -> list[tuple[int, int]]:
    """Return rules that can never match, each with the earlier rule that holds whenever it does."""
    found = []
    for later, rule in enumerate(rules):
        first = next((at for at, earlier in enumerate(rules[:later]) if _covers(earlier, rule)), None)
        if first is not None:
            found.append((later, first))
    return found


def _covers(wide: RuleSection, narrow: RuleSection) -> bool:
    """Tell whether ``wide`` surely holds for every answer that ``narrow`` holds for."""
    if wide.status is not None and (narrow.status is None or not narrow.status <= wide.status):
        return False
    if not _tests(wide):
        return True
    if (wide.path, wide.header) != (narrow.path, narrow.header):
        return False
    if wide.values is not None:
        return narrow.values is not None and set(map(quoted, narrow.values)) <= set(map(quoted, wide.values))
    if wide.regex is not None:
        return narrow.regex is not None and narrow.regex.pattern == wide.regex.pattern
    if wide.exists:
        return narrow.exists is True or (narrow.values is not None and None not in narrow.values)
    return narrow.exists is False


def _tests(rule: RuleSection) -> bool:
    return rule.values is not None or rule.exists is not None or rule.regex is not None
