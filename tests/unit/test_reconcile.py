"""``relay reconcile``: every kind and why is found, nothing is invented, and a bad side accuses nobody."""

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from relay.reconcile.compare import compared
from relay.reconcile.job import ROWS, SEEN, ComparedSide, Comparison, FileSource, PlatformReply, Question, RelaySide
from relay.reconcile.workspace import Workspace
from relay.store.sent import SentCallback

DAY = 86400.0
NOW = 1_800_000_000.0
OLD = NOW - DAY / 2  # settled, and within the window
ORDER = ["created", "paid", "shipped", "signed"]
WORDS = {"WAIT_SHIP": "paid", "REFUND": "refunded"}

Plain = tuple[str, str, float, str]
"""A row of an export: order, status, time, amount."""


def written(folder: Path, name: str, rows: Sequence[Plain], encoding: str = "utf-8") -> Path:
    """Write an export in the form that its name says."""
    if ".csv" in name:
        lines = [("order_id", "status", "updated", "amount"), *rows]
        text = "".join(",".join(str(cell) for cell in line) + "\n" for line in lines)
    else:
        names = ("order_id", "status", "updated", "amount")
        text = "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    path = folder / name
    body = text.encode(encoding)
    path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return path


def sent(key: str, status: str, state: str, *, at: float = OLD, held: bool = False, seq: int = 1) -> SentCallback:
    """Return a callback of the relay; its payload tells order and status."""
    body = json.dumps({"order_id": key, "status": status}).encode()
    return SentCallback(seq, f"id-{key}-{seq}", key, None, state, held, at, "", body)


def run(
    folder: Path,
    center: Path,
    shown: Path,
    callbacks: Sequence[SentCallback] = (),
    *,
    encoding: str = "utf-8",
    stuck: dict[str, float] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare two exports and the relay's rows as the child process does. Return the differences and the summary."""

    def side(file: Path, coded: str = "utf-8") -> ComparedSide:
        return ComparedSide(FileSource(str(file), coded), "order_id", "status", "updated", ["amount"], WORDS)

    for handed_on in (SEEN, ROWS):  # a run with none before it
        (folder / handed_on).unlink(missing_ok=True)
    return compare(folder, side(center, encoding), side(shown), callbacks, stuck=stuck)


def nobody(question: Question) -> PlatformReply:
    """Answer a comparison of files."""
    raise AssertionError(f"files need no platform: {question}")


def comparison(folder: Path, center: ComparedSide, shown: ComparedSide, *, now: float = NOW, **more: Any) -> Comparison:
    """Return what to compare: two days of orders."""
    usual: dict[str, Any] = {"carry": 2, "stuck": {}, "confirms": False, "since": now - 2 * DAY}
    return Comparison(
        run="r",
        platform="shop",
        until=now,
        settle_s=1800,
        keep_s=DAY,
        tz="UTC",
        order=ORDER,
        tolerance={"amount": 0.01},
        fewest_rows=0.5,
        order_center=center,
        shown=shown,
        relay=RelaySide("", "order_id", "status", WORDS),
        background=False,
        folder=str(folder),
        **{**usual, **more},
    )


def compare(
    folder: Path,
    center: ComparedSide,
    shown: ComparedSide,
    callbacks: Sequence[SentCallback] = (),
    *,
    stuck: dict[str, float] | None = None,
    ask: Callable[[Question], PlatformReply] = nobody,
    confirms: bool = False,
    now: float = NOW,
    carry: int = 2,
    **more: Any,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare two sides and the relay's rows. Return the differences and the summary."""
    wanted = comparison(folder, center, shown, now=now, carry=carry, stuck=stuck or {}, confirms=confirms, **more)
    *found, summary = compared(wanted, callbacks, now=now, shift_s=0.0, ask=ask)
    return found, summary


def found_in(found: list[dict[str, Any]]) -> dict[str, tuple[str, str | None, str]]:
    """Return kind, why and proposal of each order."""
    return {line["key"]: (line["kind"], line["why"], line["proposal"]) for line in found}


LATE = NOW - 60
PRUNED = NOW - DAY * 1.5
PLANTED: dict[str, tuple[list[Plain], list[Plain], list[SentCallback], tuple[str, str | None, str] | None]] = {
    "same": ([("same", "WAIT_SHIP", OLD, "1.00")], [("same", "paid", OLD, "1.005")], [], None),
    "young": ([("young", "paid", LATE, "1")], [("young", "paid", LATE, "1")], [], None),
    "m1": ([("m1", "paid", OLD, "1")], [], [], ("missing", "not_posted", "post")),
    "m2": ([("m2", "paid", OLD, "1")], [], [sent("m2", "paid", "pending")], ("missing", "waiting", "wait")),
    "m3": ([("m3", "paid", OLD, "1")], [], [sent("m3", "paid", "pending", held=True)], ("missing", "held", "resolve")),
    "m4": ([("m4", "paid", OLD, "1")], [], [sent("m4", "paid", "dead")], ("missing", "dead", "retry")),
    "m5": ([("m5", "paid", OLD, "1")], [], [sent("m5", "paid", "expired")], ("missing", "expired", "retry")),
    "m6": ([("m6", "paid", OLD, "1")], [], [sent("m6", "paid", "delivered")], ("missing", "not_applied", "resend")),
    "m7": ([("m7", "paid", PRUNED, "1")], [], [], ("missing", "pruned", "post")),
    "b1": (
        [("b1", "shipped", OLD, "1")],
        [("b1", "paid", OLD, "1")],
        [sent("b1", "paid", "delivered")],
        ("behind", "not_posted", "post"),
    ),
    "b2": (
        [("b2", "shipped", OLD, "1")],
        [("b2", "paid", OLD, "1")],
        [sent("b2", "paid", "delivered"), sent("b2", "shipped", "dead", seq=2)],
        ("behind", "dead", "retry"),
    ),
    "a1": ([("a1", "paid", OLD, "1")], [("a1", "signed", OLD, "1")], [], ("ahead", None, "ask")),
    "c1": ([("c1", "REFUND", OLD, "1")], [("c1", "signed", OLD, "1")], [], ("conflict", None, "ask")),
    "d1": ([("d1", "paid", OLD, "1")], [("d1", "paid", OLD, "1.02")], [], ("different", "over", "ask")),
    "d2": ([("d2", "paid", OLD, "1")], [("d2", "paid", OLD, "0.5")], [], ("different", "short", "ask")),
    "d3": ([("d3", "paid", OLD, "007")], [("d3", "paid", OLD, "7")], [], ("different", "amount", "ask")),
    "u1": ([], [("u1", "paid", OLD, "1")], [], ("unknown", None, "ask")),
    "vouched": ([], [("vouched", "paid", OLD, "1")], [sent("vouched", "paid", "delivered")], None),
    "v1": (
        [],
        [("v1", "paid", OLD, "1")],
        [sent("v1", "shipped", "delivered"), sent("v1", "signed", "superseded", seq=2)],
        ("behind", "not_applied", "resend"),
    ),
    "v2": ([], [("v2", "paid", OLD, "1")], [sent("v2", "shipped", "pending")], ("behind", "waiting", "wait")),
    "v3": ([], [("v3", "paid", OLD, "1")], [sent("v3", "paid", "superseded")], ("unknown", None, "ask")),
    "x1": ([("x1", "paid", OLD, "1"), ("x1", "paid", OLD, "1")], [], [], ("duplicate", None, "ask")),
    "s1": ([("s1", "created", OLD, "1")], [("s1", "created", OLD, "1")], [], ("stuck", None, "ask")),
    "n1": ([("n1", "paid", LATE, "1")], [], [], ("unsettled", None, "next run")),
    "n2": (
        [("n2", "paid", OLD, "1")],
        [],
        [sent("n2", "paid", "delivered", at=LATE)],
        ("unsettled", None, "next run"),
    ),
    "r1": ([("r1", "lost", OLD, "1")], [], [], ("unreadable", None, "orders.csv:")),
    "outside": ([("outside", "paid", NOW - 5 * DAY, "1")], [], [], None),
}
"""By order: rows of the order center, of the platform, of the relay, and what must be found."""


@pytest.mark.parametrize("name", ["orders.csv", "orders.csv.gz", "orders.jsonl", "orders.csv.zst"])
def test_every_kind_and_why_is_found_and_nothing_else(tmp_path: Path, name: str) -> None:
    """A planted set with all of them: found exactly, in each form, and the rows of either side add up."""
    center = written(tmp_path, name, [row for rows, *_ in PLANTED.values() for row in rows])
    if name.endswith(".zst"):
        center.write_bytes(zstd.compress(center.read_bytes()))
    shown = written(tmp_path, "shown.jsonl", [row for _, rows, *_ in PLANTED.values() for row in rows])
    callbacks = [callback for _, _, rows, _ in PLANTED.values() for callback in rows]

    found, summary = run(tmp_path, center, shown, callbacks, stuck={"created": 3600})

    expected = {key: wanted for key, (*_, wanted) in PLANTED.items() if wanted}
    place = found_in(found).pop("r1")[2]
    assert place.startswith(f"{name}:")
    assert found_in(found) == {**expected, "r1": ("unreadable", None, place)}
    assert summary["complete"]
    assert [problem["place"] for problem in summary["problems"]] == [place]
    for side in ("order_center", "platform"):
        assert summary["read"][side] == summary["agree"] + sum(summary["sides"][side].values())
    assert sum(summary["counts"].values()) == len(found)


HEAD = b"order_id,status,updated,amount\n"
FIRST = b"1,paid,1799956800,1\n"
FIRST_JSON = b'{"order_id":"1","status":"paid","updated":1799956800,"amount":"1"}\n'
GOOD: list[Plain] = [("1", "paid", OLD, "1"), ("2", "paid", OLD, "1")]


@pytest.mark.parametrize(
    ("name", "body", "place", "words"),
    [
        ("p.csv", None, "p.csv", "cannot be read"),
        ("p.csv", b"", "p.csv", "holds no row"),
        ("p.csv", b"order_id,status,updated,amount\n", "p.csv", "holds no row"),
        ("p.csv", b"order,status,updated,amount\n1,paid,1799956800,1\n", "p.csv:1", "no column order_id"),
        ("p.csv", HEAD + FIRST + b"2,pa", "p.csv:3", "2 fields"),
        ("p.csv", HEAD + FIRST + b'"2,paid', "p.csv:3", "no CSV"),
        ("p.csv", "order_id,status,updated,amount\n1,已付,1,1\n".encode("gb18030"), "p.csv:1", "not utf-8"),
        ("p.csv", b"order_id,status,updated,amount\n1,paid,1700000000,1\n", "p.csv", "another date"),
        ("p.csv.gz", gzip.compress(HEAD + FIRST * 50, mtime=0)[:-12], "p.csv.gz:", "cut off"),
        ("p.jsonl", FIRST_JSON + b'{"order', "p.jsonl:2", "no JSON"),
    ],
)  # fmt: skip
def test_a_bad_side_is_named_and_accuses_nobody(
    tmp_path: Path, name: str, body: bytes | None, place: str, words: str
) -> None:
    """A side that was not read whole is named with its place, and gives no `missing` and no `unknown`."""
    bad = tmp_path / name
    if body is not None:
        bad.write_bytes(body)
    good = written(tmp_path, "good.csv", GOOD)

    for center, shown in ((good, bad), (bad, good)):
        found, summary = run(tmp_path, center, shown)

        assert not summary["complete"]
        told = [(problem["place"], problem["text"]) for problem in summary["problems"]]
        assert any(where.startswith(place) and words in text for where, text in told), told
        assert {line["kind"] for line in found} <= {"unsettled"}
        assert {line["proposal"] for line in found} <= {"next run"}


def test_a_time_far_ahead_is_a_clock_that_is_off(tmp_path: Path) -> None:
    """A row more than a day ahead cannot be compared, and its place is told."""
    center = written(tmp_path, "good.csv", GOOD)
    shown = written(tmp_path, "p.csv", [GOOD[0], ("2", "paid", NOW + 2 * DAY, "1")])

    found, summary = run(tmp_path, center, shown)

    assert found_in(found) == {"2": ("unreadable", None, "p.csv:3")}
    assert "clock" in summary["problems"][0]["text"]


def test_orders_that_change_while_they_are_read_are_no_export_of_another_date(tmp_path: Path) -> None:
    """All that a side shows changed after the run had begun: it was read whole, and they wait for the next run."""
    center = written(tmp_path, "good.csv", GOOD)
    shown = written(tmp_path, "p.csv", [(key, status, NOW + 60, amount) for key, status, _, amount in GOOD])

    found, summary = run(tmp_path, center, shown)

    assert (summary["complete"], summary["problems"]) == (True, [])
    assert {line["kind"] for line in found} <= {"unsettled"}


def test_gb18030_is_read(tmp_path: Path) -> None:
    """Chinese order numbers in GB18030 are the same as in UTF-8."""
    rows: list[Plain] = [("订单一", "paid", OLD, "1")]

    found, summary = run(
        tmp_path,
        written(tmp_path, "a.csv", rows, "gb18030"),
        written(tmp_path, "b.csv", rows),
        encoding="gb18030",
    )

    assert (found, summary["agree"]) == ([], 1)


STATUSES = st.sampled_from([None, *range(len(ORDER))])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(STATUSES, STATUSES), min_size=1, max_size=30))
def test_what_is_found_is_what_two_dicts_say(tmp_path: Path, orders: list[tuple[int | None, int | None]]) -> None:
    """Any two settled sides: the kinds are those that comparing two dicts gives."""
    always: Plain = ("always", "paid", OLD, "1")
    keyed = list(enumerate(orders))
    center = [(f"k{n}", ORDER[a], OLD, "1") for n, (a, _) in keyed if a is not None]
    shown = [(f"k{n}", ORDER[p], OLD, "1") for n, (_, p) in keyed if p is not None]

    found, _ = run(
        tmp_path,
        written(tmp_path, "a.csv", [always, *center]),
        written(tmp_path, "b.jsonl", [always, *shown]),
    )

    expected = {}
    for n, (a, p) in keyed:
        if a is None and p is not None:
            expected[f"k{n}"] = "unknown"
        elif a is not None and p is None:
            expected[f"k{n}"] = "missing"
        elif a is not None and p is not None and a != p:
            expected[f"k{n}"] = "behind" if p < a else "ahead"
    assert {line["key"]: line["kind"] for line in found} == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, name: str) -> None:
    """Spreadsheets write one before UTF-8; no `encoding` is needed for it."""
    rows: list[Plain] = [("订单一", "paid", OLD, "1")]

    found, summary = run(tmp_path, written(tmp_path, name, rows, "utf-8-sig"), written(tmp_path, "b.csv", rows))

    assert (found, summary["agree"], summary["problems"]) == ([], 1, [])


def test_numbers_of_orders_in_every_form_are_one_order(tmp_path: Path) -> None:
    """A number of any length and its text are the same key, on both sides and in the relay's payloads."""
    long = "123456789012345678901234567890"
    center = written(tmp_path, "a.csv", [(long, "paid", OLD, "1"), ("7", "paid", OLD, "1"), ("8", "paid", OLD, "1")])
    shown = tmp_path / "b.jsonl"
    rows = [(long, "paid"), ("7", "paid"), ("8", "created")]
    shown.write_text(
        "".join(f'{{"order_id": {key}, "status": "{word}", "updated": {OLD}, "amount": 1.00}}\n' for key, word in rows)
    )
    bodies = [f'{{"order_id": {key}, "status": "paid"}}'.encode() for key in (long, "8")]
    kept = [SentCallback(n, f"id-{n}", None, None, "dead", False, OLD, "", body) for n, body in enumerate(bodies)]

    found, summary = run(tmp_path, center, shown, kept)

    assert found_in(found) == {"8": ("behind", "dead", "retry")}
    assert summary["agree"] == 2
    shown.write_text("".join(shown.read_text().splitlines(True)[1:]))
    assert found_in(run(tmp_path, center, shown, kept)[0])[long] == ("missing", "dead", "retry")


def test_half_a_character_ends_no_run(tmp_path: Path) -> None:
    """JSON can hold half of a pair; it is compared as a question mark, and the rest as ever."""
    shown = tmp_path / "b.jsonl"
    keys = ("1", "\\ud83d", "2")
    shown.write_text("".join(f'{{"o": {{"id": "{key}"}}, "status": "paid", "updated": {OLD}}}\n' for key in keys))
    center = ComparedSide(
        FileSource(str(written(tmp_path, "a.csv", GOOD)), "utf-8"), "order_id", "status", "updated", [], {}
    )
    nested = ComparedSide(FileSource(str(shown), "utf-8"), "o.id", "status", "updated", [], {})

    found, summary = compare(tmp_path, center, nested)

    assert (found_in(found), summary["agree"]) == ({"?": ("unknown", None, "ask")}, 2)


def test_quotes_and_line_breaks_in_a_key_stay_one_order(tmp_path: Path) -> None:
    """What CSV must quote is one order on both sides."""
    key = 'a,"b"\nc'
    center = tmp_path / "a.csv"
    with open(center, "w", encoding="utf-8", newline="") as into:
        csv.writer(into).writerows([("order_id", "status", "updated", "amount"), (key, "paid", OLD, "1")])

    found, summary = run(tmp_path, center, written(tmp_path, "b.jsonl", [(key, "paid", OLD, "1")]))

    assert (found, summary["agree"]) == ([], 1)


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Its folder holds orders in plain text; those of other platforms may be in use."""
    for name in ("reconcile-shop.abcd1234", "reconcile-shop.eu.abcd1234", "reconcile-shop-b.abcd1234"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").write_text("A-991")
    with Workspace(tmp_path, "shop") as space:
        assert sorted(path.name for path in tmp_path.glob("reconcile-*")) == sorted(
            ["reconcile-shop-b.abcd1234", "reconcile-shop.eu.abcd1234", Path(space.folder).name]
        )
    assert not Path(space.folder).exists()
