"""URLs of a shared store are read as they are meant, and shown without their password."""

import pytest
from relay.config.problems import BadValue
from relay.config.reading.server_urls import ServerUrl, parse_server_url


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("redis://h", ServerUrl("redis", (("h", 6379),))),
        ("redis://10.0.0.1:7000/3", ServerUrl("redis", (("10.0.0.1", 7000),), database=3)),
        ("rediss://ops:a%40b@[::1]:1/0", ServerUrl("rediss", (("::1", 1),), user="ops", password="a@b")),
        ("redis://:pw@h", ServerUrl("redis", (("h", 6379),), password="pw")),
        ("redis+sentinel://a,b:1/main", ServerUrl("redis+sentinel", (("a", 26379), ("b", 1)), name="main")),
        ("redis+cluster://a,b", ServerUrl("redis+cluster", (("a", 6379), ("b", 6379)))),
    ],
)
def test_what_is_meant(text: str, meant: ServerUrl) -> None:
    """Hosts, port, database, name and who asks; what is shown leads to the same hosts without the password."""
    assert parse_server_url(text) == meant
    assert "pw" not in meant.shown
    assert parse_server_url(meant.shown).hosts == meant.hosts


@pytest.mark.parametrize(
    "text",
    ["redis://", "redis://h:x", "redis://h:0", "redis://h/one", "redis://a,b", "redis://h?db=1", "redis+sentinel://h"],
)
def test_what_is_refused(text: str) -> None:
    """A URL that could mean something else is an error."""
    with pytest.raises(BadValue):
        parse_server_url(text)
