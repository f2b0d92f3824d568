"""Per-item results: what an answer says of each item of its batch (SPEC 5, ``results``).

An answer lists entries; each names its item by its place in the batch or by an id that the payload has too. What the
list leaves open is decided on the safe side: an item is never called delivered because an entry could not be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from relay.core.errors import Unbuildable, Unfit
from relay.core.model import Item, ItemVerdict, Outcome, Verdict
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.json_path import JsonPath
from relay.wire.answers.reading import Reading, as_json, printable
from relay.wire.answers.rules import Rule
from relay.wire.payload.extract import InvalidJson
from relay.wire.payload.fields import problem_of
from relay.wire.payload.target import Reader, TemplateFields, facts_of

# An answer about a batch of hundreds may repeat each item whole (WooCommerce does).
MAX_RESULTS_BYTES: Final = 4 * 1024 * 1024
OUTCOMES: Final = frozenset(
    {Outcome.OK, Outcome.DUPLICATE, Outcome.RETRY, Outcome.REJECT, Outcome.THROTTLED, Outcome.CONFIRM}
)
"""What a rule of ``results.classify`` may say: one item cannot be split, nor a token be refused for it alone."""
_MESSAGE_CHARS: Final = 300
_MOST_ENTRIES: Final = 20  # for each item: one, or one for every fault found in it; a list of more says something else
_NO_LIST: Final = object()
_UNNAMED: Final = "results: not named in the answer"


@dataclass(frozen=True, slots=True)
class Results:
    """What the configuration says of ``results``; it is compiled and checked there.

    For ``{"failed": [{"id": "o7", "code": 3}]}``: ``at`` is ``failed``, ``name_at`` is ``id``.
    """

    at: JsonPath  # of the list of entries
    by_id: bool
    covers_all: bool  # every item has its entry, not only failed ones
    name_at: JsonPath | None  # of the index or id in an entry; None: an entry's place in the list says whose it is
    failed_if: JsonPath | None  # None: every entry is of a failed item, unless a rule says otherwise
    item_id: Reader  # the same id in the payload
    item_id_name: str
    rules: Sequence[Rule]

    def check(self, facts: TemplateFields) -> None:
        """Raise ``Unfit`` (or ``InvalidJson``) for a callback that no answer could name."""
        if self.by_id and not self.item_id(facts):
            raise Unfit(f"results.item_id {self.item_id_name} is missing")

    def check_all(self, items: Sequence[Item]) -> None:
        """Raise ``Unbuildable`` with every item that no answer could name."""
        if not self.by_id:
            return
        refused: dict[int, str] = {}
        for item in items:
            try:
                self.check(facts_of(item))
            except (InvalidJson, Unfit) as error:
                refused[item.seq] = problem_of(error)
        if refused:
            raise Unbuildable(refused)

    def read(self, answer: Answer | Failure, whole: Verdict, items: Sequence[Item], *, wall: float) -> Verdict:
        """Return ``whole``, what the answer means as a whole, with a verdict per item where the answer gives them.

        Read are answers that are ok as a whole, and a 400 that names failed items (Mixpanel says so: 400 with the
        other records imported). Raises nothing.
        """
        if isinstance(answer, Failure):
            return whole
        accepted = whole.outcome.accepted
        if not accepted and not (whole.outcome is Outcome.REJECT and answer.status == 400):
            return whole
        if accepted and not answer.body.strip() and answer.complete and not self.covers_all:
            return whole  # nothing is named, so nothing failed
        reading = Reading(answer)
        try:
            entries = self._entries(reading, len(items))
            found, unmatched = self._assign(reading, entries, items, wall)
        except Unfit:
            if not accepted:
                return whole
            # As a whole it was a success, so the platform may well have applied them all.
            return replace(whole, outcome=Outcome.CONFIRM, ambiguous=True, reason="results: cannot be read", code=None)
        if not accepted and all(verdict.outcome.accepted for verdict in found.values()):
            return whole  # a refusal that names nobody
        if accepted and not found and not unmatched and not self.covers_all:
            return whole
        open_end = self.covers_all or unmatched
        rest = ItemVerdict(Outcome.CONFIRM, _UNNAMED) if open_end else ItemVerdict(Outcome.OK, whole.reason)
        return _summed(whole, [found.get(place, rest) for place in range(len(items))])

    def _entries(self, reading: Reading, items: int) -> list[Any]:
        """Return the list of entries, empty where there is none. Raises ``Unfit`` where something else stands there."""
        if reading.document is None:
            raise Unfit("the answer is no JSON")
        found = [] if (at := reading.find(self.at, misfit=_NO_LIST)) is None else at
        if not isinstance(found, list) or len(found) > _MOST_ENTRIES * (items + 1):
            raise Unfit("what stands at results.at is no list of results")
        return found

    def _assign(
        self, reading: Reading, entries: Sequence[Any], items: Sequence[Item], wall: float
    ) -> tuple[dict[int, ItemVerdict], bool]:
        """Return what entries say by the items' places, and whether a failed entry names nobody we know.

        Of several entries for one item the first that is not good counts.
        """
        places = self._places(reading, entries, items)
        found: dict[int, ItemVerdict] = {}
        unmatched = False
        for entry, named in zip(entries, places, strict=True):
            verdict = self._judge(reading, entry, wall)
            if not named and not verdict.outcome.accepted:
                unmatched = True
            for place in named:
                if place not in found or found[place].outcome.accepted:
                    found[place] = verdict
        return found, unmatched

    def _places(self, reading: Reading, entries: Sequence[Any], items: Sequence[Item]) -> list[Sequence[int]]:
        """Return for each entry the places of the items it names: none, one, or all that share its id."""
        if self.name_at is None:  # entries in the order of the items: only a full list says which is which
            whole = len(entries) == len(items)
            return [(number,) if whole else () for number in range(len(entries))]
        names = [_name(reading.find_in(entry, self.name_at)) for entry in entries]
        of: dict[str, list[int]]
        if not self.by_id:
            of = {str(place): [place] for place in range(len(items))}
            return [of.get(name, ()) for name in names]
        of = {}
        for place, item in enumerate(items):
            of.setdefault(self.item_id(facts_of(item)) or "", []).append(place)
        return [of.get(name, ()) if name else () for name in names]

    def _judge(self, whole: Reading, entry: Any, wall: float) -> ItemVerdict:
        """Return what one entry says of its item: failed or not, and if so what its rules make of it."""
        complaint = entry
        if self.failed_if is not None:
            complaint = whole.find_in(entry, self.failed_if)
            if not complaint and (isinstance(complaint, bool) or not isinstance(complaint, int | float)):
                return ItemVerdict(Outcome.OK, "results: ok")
        reading = whole.of_part(entry)
        message = printable(
            complaint if isinstance(complaint, str) else as_json(entry if complaint is True else complaint)
        )
        for rule in self.rules:
            met = rule.match(reading)
            if met is not None:
                wait_s = None if rule.wait is None else rule.wait(reading, wall=wall)
                return ItemVerdict(rule.outcome, met.reason or "results", message[:_MESSAGE_CHARS], wait_s, met.code)
        return ItemVerdict(Outcome.REJECT, "results", message[:_MESSAGE_CHARS])


def _name(value: Any) -> str:
    """Return an entry's index or id as text; empty where it has none (a null, an object)."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _summed(whole: Verdict, verdicts: Sequence[ItemVerdict]) -> Verdict:
    """Return the verdict on the batch: ok as soon as one item is."""
    if all(verdict.outcome.accepted for verdict in verdicts):
        return whole
    some = any(verdict.outcome.accepted for verdict in verdicts)
    first = next(verdict for verdict in verdicts if not verdict.outcome.accepted)
    return replace(
        whole,
        outcome=Outcome.OK if some else first.outcome,
        reason="results: partly accepted" if some else "results: nothing accepted",
        code=None,
        items=tuple(verdicts),
    )
