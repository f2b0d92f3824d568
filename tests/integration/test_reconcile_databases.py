"""``relay reconcile`` asks real PostgreSQL and MariaDB servers for the order center's orders."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from relay.reconcile.job import ComparedSide, FileSource, SqlSource
from tests.integration.database_side import mariadb, postgresql
from tests.unit.test_reconcile import OLD, WORDS, compare, found_in, written

# OLD is 2027-01-14 20:00 UTC: in the session's zone (UTC here) it is written without one
ROWS = ["('1', '已支付', 1.50, {now})", "('2', 'paid', 2, {now})", "('3', 'signed', 2, {then})"]
QUERY = "SELECT order_id, status, updated, amount FROM orders WHERE updated >= :since AND updated <= :until"


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server with three orders, one of which changed long ago; its URL."""
    serve = {"postgresql": postgresql, "mariadb": mariadb}[request.param]
    with serve() as url:
        engine = sqlalchemy.create_engine(url)
        kind = "timestamptz" if request.param == "postgresql" else "datetime"
        zone = "+00" if request.param == "postgresql" else ""
        with engine.begin() as connection:
            columns = f"order_id varchar(20), status varchar(20), amount decimal(9, 2), updated {kind}"
            charset = "" if request.param == "postgresql" else " CHARACTER SET utf8mb4"
            connection.exec_driver_sql(f"CREATE TABLE orders ({columns}){charset}")
            for row in ROWS:
                values = row.format(now=f"'2027-01-14 20:00:00{zone}'", then=f"'2020-01-01 00:00:00{zone}'")
                connection.exec_driver_sql(f"INSERT INTO orders (order_id, status, amount, updated) VALUES {values}")
        engine.dispose()
        yield url


def side(source: FileSource | SqlSource) -> ComparedSide:
    """Return a side with these tests' columns."""
    return ComparedSide(source, "order_id", "status", "updated", ["amount"], {**WORDS, "已支付": "paid"})


def test_a_database_is_compared(tmp_path: Path, database: str) -> None:
    """Words, amounts and times come as they are; what the window leaves out is looked up."""
    rows = [("1", "paid", OLD, "1.5"), ("2", "shipped", OLD, "2"), ("3", "paid", OLD, "2"), ("4", "paid", OLD, "1")]
    shown = side(FileSource(str(written(tmp_path, "p.csv", rows)), "utf-8"))

    found, summary = compare(tmp_path, side(SqlSource(database, QUERY)), shown)

    assert summary["problems"] == []
    assert found_in(found) == {
        "2": ("ahead", None, "ask"),
        "3": ("behind", "pruned", "post"),
        "4": ("unknown", None, "ask"),
    }
    assert summary["agree"] == 1
    assert [line["order_center"]["at"] for line in found if line["key"] == "2"] == ["2027-01-14T20:00:00.000Z"]


def test_it_is_only_read(tmp_path: Path, database: str) -> None:
    """A query that writes is refused by the database, and nothing is compared."""
    shown = side(FileSource(str(written(tmp_path, "p.csv", [("1", "paid", OLD, "1.5")])), "utf-8"))

    found, summary = compare(tmp_path, side(SqlSource(database, "DELETE FROM orders")), shown)

    assert (found, summary["complete"]) == ([], False)
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM orders").scalar() == 3
    engine.dispose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyMySQL leaves its socket behind
def test_a_server_that_is_down_is_named(tmp_path: Path, database: str) -> None:
    """A database that cannot be reached fails the run by name, and its password is not told."""
    url = database.replace("tester@", "tester:s3cret@").replace("root@", "root:s3cret@") + "gone"
    shown = side(FileSource(str(written(tmp_path, "p.csv", [("1", "paid", OLD, "1.5")])), "utf-8"))

    found, summary = compare(tmp_path, side(SqlSource(url, QUERY)), shown)

    assert (found, summary["complete"]) == ([], False)
    assert "s3cret" not in str(summary)
    gc.collect()
