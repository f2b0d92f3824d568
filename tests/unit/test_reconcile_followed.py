"""What was found stays in sight until it is mended: nothing ends by growing older than the window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from relay.reconcile.job import ComparedSide, FileSource, PagedSource, PlatformReply, Question
from relay.reconcile.repairing import Repair, verified
from relay.reconcile.sources.orders_told import ReadOfAnswer, page_of
from tests.unit.test_reconcile import DAY, NOW, OLD, WORDS, Plain, compare, written

LATER = NOW + 3 * DAY
"""When all that changed before NOW lies outside of the window."""
FRESH: Plain = ("fresh", "paid", LATER - 7200, "1")
FORMER: Plain = ("former", "paid", OLD, "1")
STALE: Plain = ("stale", "paid", OLD, "1")
READ = ReadOfAnswer("orders", "", ("order_id", "status", "updated"))


def of_file(folder: Path, name: str, rows: Sequence[Plain]) -> ComparedSide:
    """Return a side that is an export."""
    return ComparedSide(
        FileSource(str(written(folder, name, rows)), "utf-8"), "order_id", "status", "updated", [], WORDS
    )


def first_night(folder: Path) -> None:
    """Let an order be missing in the first run."""
    center = of_file(folder, "first-a.csv", [STALE, FORMER])
    found, _ = compare(folder, center, of_file(folder, "first-b.csv", [FORMER]), follow=True)
    assert kinds(found) == {"stale": ("missing", 1)}


def kinds(found: list[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    """Return of each order its kind, and in how many runs it was found."""
    return {line["key"]: (line["kind"], line["runs"]) for line in found}


def test_a_difference_stays_until_it_is_mended(tmp_path: Path) -> None:
    """An order that is missing is missing on the third night too, and no longer once the platform shows it."""
    center = of_file(tmp_path, "a.csv", [STALE, FRESH])
    without, shown = of_file(tmp_path, "b.csv", [FRESH]), of_file(tmp_path, "c.csv", [STALE, FRESH])
    first_night(tmp_path)

    for runs in (2, 3):
        found, summary = compare(tmp_path, center, without, now=LATER, follow=True)
        assert kinds(found) == {"stale": ("missing", runs)}
        assert summary["agree"] == 1

    assert compare(tmp_path, center, shown, now=LATER, follow=True)[0] == []
    assert compare(tmp_path, center, without, now=LATER, follow=True)[0] == []  # that is another difference: too old


def test_a_run_over_another_time_forgets_nothing(tmp_path: Path) -> None:
    """A person who compares the last hour leaves what the nights know of older orders."""
    center, without = of_file(tmp_path, "a.csv", [STALE, FRESH]), of_file(tmp_path, "b.csv", [FRESH])
    first_night(tmp_path)

    assert compare(tmp_path, center, without, now=LATER, follow=False)[0] == []

    assert kinds(compare(tmp_path, center, without, now=LATER, follow=True)[0]) == {"stale": ("missing", 2)}


def test_an_order_that_nobody_lists_any_more_is_left(tmp_path: Path) -> None:
    """Exports that hold the window alone accuse nobody of what they no longer list."""
    both, center = of_file(tmp_path, "a.csv", [STALE, FRESH]), of_file(tmp_path, "b.csv", [FRESH])
    first_night(tmp_path)

    assert compare(tmp_path, center, both, now=LATER, follow=True)[0] == []


@pytest.mark.parametrize(
    ("asked_since", "expected"),
    [(None, {}), (NOW - 2 * DAY, {"stale": ("missing", 1)})],
)
def test_pages_accuse_nobody_of_what_lies_before_them(
    tmp_path: Path, asked_since: float | None, expected: dict[str, Any]
) -> None:
    """Pages list what changed in the time they are asked for: only there an order that they lack is missing."""
    asked = []

    def ask(question: Question) -> PlatformReply:
        asked.append(question.page)
        orders = [dict(zip(("order_id", "status", "updated"), FRESH, strict=False))] if len(asked) == 1 else []
        return page_of({"orders": orders}, PlatformReply("ok", 200), READ)

    source = PagedSource("https://p.example/orders?from={since:s}&page={page}", "orders", 1, "", "", False)
    shown = ComparedSide(source, "order_id", "status", "updated", [], WORDS)
    center = of_file(tmp_path, "a.csv", [STALE, FRESH])

    found, summary = compare(
        tmp_path, center, shown, ask=ask, now=LATER, watched=["stale"], read_since=asked_since, carry=0
    )

    assert f"from={int(asked_since or LATER - 2 * DAY)}&" in asked[0]
    assert kinds(found) == expected
    assert summary["agree"] == 1


def test_repaired_is_only_what_both_sides_were_seen_to_show(tmp_path: Path) -> None:
    """Of repaired orders outside of the window: one agrees, one is still missing, one is on neither side any more."""
    center = of_file(tmp_path, "a.csv", [STALE, ("lost", "paid", OLD, "1"), ("ahead", "paid", OLD, "1"), FRESH])
    shown = of_file(tmp_path, "b.csv", [STALE, ("ahead", "signed", OLD, "1"), FRESH])
    repaired = [Repair(key, "missing", "resend", f"c-{key}", "paid") for key in ("stale", "lost", "ahead", "gone")]

    found, summary = compare(tmp_path, center, shown, now=LATER, watched=[each.key for each in repaired])
    results = verified(repaired, {line["key"]: line["kind"] for line in found}, summary["agreeing"])

    assert {each["key"]: each["result"] for each in results} == {
        "stale": "repaired",
        "lost": "still",
        "ahead": "changed",
        "gone": "changed",
    }
