"""``relay reconcile`` reads every kind of source, asks a platform under its limits, and a bad side accuses nobody."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from relay.core.clock import boottime_s
from relay.reconcile.job import ROWS, ComparedSide, FileSource, PagedSource, PlatformReply, Question, SqlSource
from relay.reconcile.sources.orders_told import ReadOfAnswer, order_of, page_of
from tests import warm_start
from tests.e2e.harness import bench
from tests.integration.test_reconcile_command import keep, stamp
from tests.unit.test_reconcile import DAY, NOW, OLD, WORDS, compare, found_in, written

COLUMNS = {"key": "order_id", "status": "status", "at": "updated_at"}


def side(source: FileSource | SqlSource | PagedSource, *also: str) -> ComparedSide:
    """Return a side with the columns of the exports of these tests."""
    return ComparedSide(source, "order_id", "status", "updated", list(also), WORDS)


def csv_side(folder: Path, *orders: tuple[str, str]) -> ComparedSide:
    """Write an export of orders that changed half a day ago."""
    return side(FileSource(str(written(folder, "c.csv", [(key, status, OLD, "1") for key, status in orders])), "utf-8"))


def test_parquet_is_read(tmp_path: Path) -> None:
    """Keys, words, amounts and times of Parquet's own types compare with those of a CSV file."""
    import duckdb

    file = tmp_path / "shown.parquet"
    duckdb.sql(
        f"COPY (SELECT 7 AS order_id, 'paid' AS status, to_timestamp({OLD}) AS updated, 1.50::DECIMAL(9, 2) AS amount "
        f"UNION ALL SELECT 8, 'paid', to_timestamp({OLD}), 1) TO '{file}' (FORMAT parquet)"
    )
    center = written(tmp_path, "c.csv", [("7", "paid", OLD, "1.5"), ("8", "shipped", OLD, "1")])

    found, summary = compare(
        tmp_path, side(FileSource(str(center), "utf-8"), "amount"), side(FileSource(str(file), "utf-8"), "amount")
    )

    assert found_in(found) == {"8": ("behind", "not_posted", "post")}
    assert summary["agree"] == 1


@pytest.mark.parametrize(("body", "words"), [(None, "no such file"), (b"", "cannot be read"), (b"PAR1x", "cannot be")])
def test_a_bad_parquet_file_is_named(tmp_path: Path, body: bytes | None, words: str) -> None:
    """A file that is missing, empty or cut off is named, and nothing is compared."""
    file = tmp_path / "p.parquet"
    if body is not None:
        file.write_bytes(body)

    found, summary = compare(tmp_path, csv_side(tmp_path, ("1", "paid")), side(FileSource(str(file), "utf-8")))

    assert found == []
    assert not summary["complete"]
    assert words in summary["problems"][0]["text"]


def database(folder: Path, rows: list[tuple[str, str, str]]) -> SqlSource:
    """Return a query of a new SQLite database."""
    file = folder / "orders.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE orders (order_id, status, updated)")
        db.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    return SqlSource(
        f"sqlite:///{file}", "SELECT order_id, status, updated FROM orders WHERE updated >= :since ORDER BY order_id"
    )


def test_a_query_is_read_and_a_key_it_left_out_is_looked_up(tmp_path: Path) -> None:
    """An order that the query's window leaves out is read a second time: it is behind there, not unknown."""
    old, late = "2020-01-01 00:00:00", "2027-01-14 20:00:00"  # NOW is 2027-01-15 08:00:00
    source = database(tmp_path, [("1", "paid", late), ("2", "signed", old)])
    shown = csv_side(tmp_path, ("1", "paid"), ("2", "paid"), ("3", "paid"))

    found, summary = compare(tmp_path, side(source), shown)

    assert found_in(found) == {"2": ("behind", "pruned", "post"), "3": ("unknown", None, "ask")}
    assert summary["agree"] == 1


def test_a_key_that_the_second_read_could_not_look_up_stays_open(tmp_path: Path) -> None:
    """A query that fails without the bounds of its window accuses nobody: the order is unsettled, and why is said."""
    source = database(tmp_path, [("1", "paid", "2027-01-14 20:00:00")])
    fails = "abs(CASE WHEN :since < '2000' THEN -9223372036854775808 END)"
    query = source.query.replace(" FROM", f", {fails} FROM")

    found, summary = compare(
        tmp_path, side(SqlSource(source.sql, query)), csv_side(tmp_path, ("1", "paid"), ("3", "paid"))
    )

    assert found_in(found) == {"3": ("unsettled", "not_read", "next run")}
    assert "the second read: " in summary["problems"][0]["text"]


def test_a_side_that_does_not_reach_back_is_told(tmp_path: Path) -> None:
    """A query without ``:since``, or an export, that begins long after ``since``: its orders before are doubted."""
    days = [("2027-01-01 00:00:00", "old"), ("2027-01-14 20:00:00", "new")]  # NOW is 2027-01-15 08:00:00
    rows = [(f"{name}{n}", "paid", at) for at, name in days for n in range(25)]
    source = database(tmp_path, rows)
    whole = side(FileSource(str(written(tmp_path, "whole.csv", [(*row, "1") for row in rows])), "utf-8"))
    short = side(SqlSource(source.sql, source.query.replace(":since", "'2027-01-14'")))
    lately = side(FileSource(str(written(tmp_path, "short.csv", [(*row, "1") for row in rows[25:]])), "utf-8"))

    for pair, name, words in (
        ((short, whole), "order_center", "the query names no :since"),
        ((whole, lately), "platform", "its rows begin at 2027-01-14"),
    ):
        _, summary = compare(tmp_path, *pair, since=NOW - 20 * DAY)
        (problem,) = summary["problems"]
        assert (problem["side"], problem["place"]) == (name, "since")
        assert words in problem["text"]
        assert "25 rows from before" in problem["text"]
    assert compare(tmp_path, side(source), whole, since=NOW - 20 * DAY)[1]["problems"] == []
    assert compare(tmp_path, short, whole)[1]["problems"] == []


def test_a_query_that_fails_is_named(tmp_path: Path) -> None:
    """A database that cannot be asked, a column that is not there, a query that fails half-way."""
    source = database(tmp_path, [(str(n), "paid", "2027-01-14 20:00:00") for n in range(20)])
    shown = csv_side(tmp_path, ("1", "paid"))
    half = "SELECT order_id, status, updated, abs(CASE order_id WHEN '7' THEN -9223372036854775808 END) FROM orders"
    for query, sql, words in (
        ("SELECT 1 AS order_id", source.sql, "no column status"),
        (half, source.sql, "overflow"),
        ("SELECT nonsense", source.sql, "nonsense"),
        ("DELETE FROM orders", source.sql, "readonly"),
        ("SELECT 1", "oracle+nothing://h/d", "not known"),
        ("SELECT 1", f"sqlite:///{tmp_path}/gone.db", "no database gone.db"),
    ):
        found, summary = compare(tmp_path, side(SqlSource(sql, query)), shown)

        assert found == []
        assert words in summary["problems"][0]["text"], summary["problems"]


READ = ReadOfAnswer("data.orders", "", ("order_id", "status", "updated"))


def page(document: Any) -> PlatformReply:
    """Return what a comparison reads of a page that is answered."""
    return page_of(document, PlatformReply("ok", 200), READ)


def told(outcome: str, status: int, document: Any) -> PlatformReply:
    """Return what a comparison reads of an answer about one order."""
    return order_of(document, PlatformReply(outcome, status), READ)


def pages(*answers: Any) -> tuple[PagedSource, Any]:
    """Return a source of pages numbered from 1, and what answers for them; the last answer is given for ever."""

    def ask(question: Question) -> PlatformReply:
        number = int(question.page.rpartition("=")[2])
        answer = answers[min(number, len(answers)) - 1]
        if isinstance(answer, PlatformReply):
            return answer
        return page({"data": {"orders": answer}})

    return PagedSource("https://p.example/orders?page={page}", "data.orders", 1, "", "", False), ask


def shown_order(key: str, status: str = "paid") -> dict[str, Any]:
    """Return an order as pages hold it."""
    return {"order_id": key, "status": status, "updated": OLD}


@pytest.mark.parametrize(
    ("answers", "place", "words"),
    [
        (([shown_order("1")], PlatformReply("retry", 500, reason="HTTP 500")), "page 2", "HTTP 500"),
        (([shown_order("1")], [shown_order("2")]), "page 3", "the same as page 2"),
        (([shown_order("1")], [{**shown_order(key), "updated": OLD + n} for n, key in enumerate("32")],
          [{**shown_order(key), "updated": OLD + n} for n, key in enumerate("23")]), "page 3", "the same as page 2"),
        (([shown_order("1")], page({"data": {"total": 1}})), "page 2", ""),
        (([shown_order("1")], page({})), "page 2", ""),
        (([shown_order("1")], page("sorry")), "page 2", "no list of orders"),
        (([shown_order("1")], page({"code": 500, "data": None})), "page 2", "no list of orders"),
        (([shown_order("1")], PlatformReply("ok", 200, reason="the answer is no JSON")), "page 2", "no JSON"),
        (([],), "page 1", "holds no order"),
        ((PlatformReply("unsent", 0, reason="no request could go"),), "page 1", "no request could go"),
        (([{"status": "paid", "updated": OLD}], []), "page 1:1", "no value in order_id"),
    ],
)  # fmt: skip
def test_bad_pages_are_named_and_accuse_nobody(tmp_path: Path, answers: Any, place: str, words: str) -> None:
    """A page that fails, one that comes for ever, none at all: incomplete with the page, and no order is accused."""
    source, ask = pages(*answers)
    if words == "":  # a page that leaves the list out is the end, as an empty one is
        found, summary = compare(tmp_path, csv_side(tmp_path, ("1", "paid")), side(source), ask=ask)
        assert (found, summary["complete"]) == ([], True)
        return

    found, summary = compare(tmp_path, csv_side(tmp_path, ("1", "paid"), ("9", "paid")), side(source), ask=ask)

    assert not summary["complete"]
    assert summary["problems"][0]["place"] == place
    assert words in summary["problems"][0]["text"]
    assert {line["kind"] for line in found} <= {"unsettled"}


def test_what_pages_leave_out_is_asked_about(tmp_path: Path) -> None:
    """An order that no page holds is looked up: there, earlier or as sent, gone, or no answer about it."""
    source, listed = pages([shown_order("1")], [])
    answers = {
        "behind": told("ok", 200, shown_order("behind", "created")),
        "applied": told("duplicate", 200, {"errcode": 1}),
        "gone": PlatformReply("confirm", 404),
        "silent": PlatformReply("retry", 503),
        "refused": told("reject", 200, {"errcode": 404}),
        "other's": told("reject", 200, shown_order("1", "signed")),
    }

    def ask(question: Question) -> PlatformReply:
        return listed(question) if question.page else answers[question.order]

    center = csv_side(tmp_path, ("1", "paid"), *((key, "paid") for key in answers))
    found, summary = compare(tmp_path, center, side(source), ask=ask, confirms=True)

    assert found_in(found) == {
        "behind": ("behind", "not_posted", "post"),
        "gone": ("missing", "not_posted", "post"),
        "refused": ("missing", "not_posted", "post"),
        "other's": ("missing", "not_posted", "post"),
        "silent": ("unsettled", "not_read", "next run"),
    }
    assert summary["agree"] == 2


def test_unsettled_counts_in_the_third_run(tmp_path: Path) -> None:
    """``carry: 2``: two runs carry a young difference, also when it is no longer young; the third counts it."""
    late = NOW - 60
    center = side(
        FileSource(str(written(tmp_path, "a.csv", [("1", "paid", OLD, ""), ("2", "paid", late, "")])), "utf-8")
    )
    shown = side(FileSource(str(written(tmp_path, "b.csv", [("1", "paid", OLD, "")])), "utf-8"))
    kinds = []
    for run in range(4):
        found, _ = compare(tmp_path, center, shown, now=NOW + run * 3600)
        kinds.append([(line["kind"], line["runs"]) for line in found])
        assert found[0]["first_seen"] == "2027-01-15T08:00:00.000Z"

    assert kinds == [[("unsettled", 1)], [("unsettled", 2)], [("missing", 3)], [("missing", 4)]]


def test_a_side_that_shrank_is_refused(tmp_path: Path) -> None:
    """An export of under half of the last one's rows is refused with its number, as often as it comes."""
    whole = [(str(n), "paid") for n in range(10)]
    shown = csv_side(tmp_path, *whole)
    assert compare(tmp_path, shown, shown)[1]["complete"]
    for _ in range(2):
        few = side(FileSource(str(written(tmp_path, "few.csv", [("1", "paid", OLD, "1")] * 4)), "utf-8"))
        found, summary = compare(tmp_path, shown, few)

        assert found == []
        assert not summary["complete"]
        assert "4 rows" in summary["problems"][0]["text"]


def test_a_shorter_span_has_fewer_rows(tmp_path: Path) -> None:
    """The rows of a run over an hour are not those that a run over two days is measured by, nor the other way round."""
    shown = csv_side(tmp_path, *((str(n), "paid") for n in range(10)))
    (tmp_path / ROWS).write_bytes(json.dumps({"order_center": 1000, "platform": 1000, "span": 20 * DAY}).encode())
    assert compare(tmp_path, shown, shown)[1]["complete"]
    (tmp_path / ROWS).write_bytes(json.dumps({"order_center": 1000, "platform": 1000, "span": 1.9 * DAY}).encode())
    assert not compare(tmp_path, shown, shown)[1]["complete"]


RECEIVER = {"name": "张三丰", "phone": "13812345678"}


class Shop:
    """A platform that lists orders page by page and notes when it was asked."""

    def __init__(self, orders: list[tuple[str, str]], *, size: int) -> None:
        self.orders = orders
        self.size = size
        self.asked: list[tuple[float, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a page, an order or a callback."""
        if request.method == "POST":
            return web.json_response({})
        self.asked.append((boottime_s(), str(request.rel_url)))
        if request.headers.get("Authorization") != "Bearer t0ken":
            return web.Response(status=401)
        if request.path == "/order":
            wanted = [status for key, status in self.orders if key == request.query["id"]]
            return web.json_response(
                {"order_id": request.query["id"], "status": wanted[0]} if wanted else {}, status=200 if wanted else 404
            )
        page = int(request.query["page"])
        listed = [order for order in self.orders if not order[0].startswith("hidden")][(page - 1) * self.size :][
            : self.size
        ]
        at = stamp(3)
        return web.json_response(
            {
                "data": {
                    "orders": [{"order_id": k, "status": s, "updated_at": at, "receiver": RECEIVER} for k, s in listed]
                }
            }
        )


@asynccontextmanager
async def shop(orders: list[tuple[str, str]], *, size: int = 2) -> AsyncIterator[Shop]:
    """Serve a platform until the block ends."""
    made = Shop(orders, size=size)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def settings(url: str) -> dict[str, Any]:
    """Return a platform and its section ``reconcile``."""
    return {
        "platform": {
            "url": f"{url}/callbacks", "rate": "6/s", "auth": {"kind": "bearer", "token": "t0ken"},
            "confirm": {"url": f"{url}/order?id={{key}}", "classify": [{"status": 200, "as": "ok"}]},
        },
        "reconcile": {
            "order_center": {"file": "orders.csv"}, "budget": "5/s",
            "platform": {
                "url": f"{url}/orders?from={{since}}&page={{page}}", "items_at": "data.orders", "next": {"page": 1},
            },
            "columns": COLUMNS, "order": ["created", "paid", "shipped"],
        },
    }  # fmt: skip


async def command(config: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the command as a process; return exit code, output and what it said beside."""
    code, out, err = await warm_start.run("reconcile", "shop-a", "-c", str(config), "-o", "json", *options)
    return code, json.loads(out or "{}"), err


ORDERS = [(f"o{n:02}", "paid") for n in range(20)]


def export(directory: Path, orders: list[tuple[str, str]]) -> None:
    """Write the order center's export."""
    lines = ["order_id,status,updated_at", *(f"{key},{status},{stamp(3)}" for key, status in orders)]
    (directory / "orders.csv").write_text("\n".join(lines) + "\n")


def most_within(times: list[float], window_s: float) -> int:
    """Return the most requests in any window."""
    return max(sum(start <= at < start + window_s for at in times) for start in times)


def expected(summary: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Return what was found by key."""
    return {line["key"]: (line["kind"], line["why"]) for line in summary["differences"]}


FOUND = {"gone": ("missing", "not_posted"), "hidden": ("behind", "not_posted"), "o03": ("ahead", None)}


async def test_pages_are_asked_for_under_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a daemon: every page through the platform's login, never more than its rate and the budget allow, and
    what no page holds is looked up."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    await keep(tmp_path)
    shown = [(key, "shipped" if key == "o03" else status) for key, status in ORDERS]
    async with shop([*shown, ("hidden", "created")]) as platform:
        given = settings(platform.url)
        config = {
            "version": 1, "admin": {"listen": "127.0.0.1:9"},
            "platforms": {"shop-a": given["platform"]}, "reconcile": {"shop-a": given["reconcile"]},
        }  # fmt: skip
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        export(tmp_path, [*ORDERS, ("hidden", "paid"), ("gone", "paid")])

        code, summary, err = await command(tmp_path / "config.yaml")

        assert code == 3, err
        assert expected(summary) == FOUND
        assert len(platform.asked) == 13
        assert most_within([at for at, _ in platform.asked], 1.0) <= 5
        assert "from=20" in platform.asked[0][1]


async def test_a_running_daemon_asks_for_the_command(tmp_path: Path) -> None:
    """With a daemon on the store its limits hold for deliveries and pages together; and whoever asks it gets of an
    order what is compared, of no other page anything."""
    async with shop(
        [*((key, "shipped" if key == "o03" else status) for key, status in ORDERS), ("hidden", "created")]
    ) as platform:
        given = settings(platform.url)
        async with bench(tmp_path, platform=given["platform"] | {"url": f"{platform.url}/callbacks"}) as running:
            file = tmp_path / "config.yaml"
            config = yaml.safe_load(file.read_text())
            config["platforms"]["shop-a"] = config["platforms"].pop(next(iter(config["platforms"])))
            config["reconcile"] = {"shop-a": given["reconcile"]}
            file.write_text(yaml.safe_dump(config))
            await running.kill()
            await running.restart()
            export(tmp_path, [*ORDERS, ("hidden", "paid"), ("gone", "paid")])

            code, summary, err = await command(file)

            assert code == 3, err
            assert expected(summary) == FOUND
            assert most_within([at for at, _ in platform.asked], 1.0) <= 5
            url = f"{running.admin}/v1/reconciliations/questions"
            question = {"platform": "shop-a", "page": f"{platform.url}/orders?from=0&page=1"}
            async with running.http.post(url, json=question) as response:
                reply, text = await response.json(), await response.text()
            assert [row[:2] for row in reply["rows"]] == [["o00", "paid"], ["o01", "paid"]]
            assert not [value for value in RECEIVER.values() if value in text or json.dumps(value)[1:-1] in text]
            question["page"] = f"{platform.url}/order?id=o03"
            async with running.http.post(url, json=question) as response:
                assert (await response.json())["outcome"] == "unsent"
