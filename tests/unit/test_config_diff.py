"""What a reload cannot put in force is said with each change."""

import json

import pytest
from relay.config.diff import Change, difference
from relay.config.load import loads

BEFORE = {
    "version": 1,
    "ingest": {"listen": "127.0.0.1:8787", "max_body": "1MiB"},
    "admin": {"listen": "127.0.0.1:8788", "hosts": ["relay.internal"]},
    "store": {"url": "sqlite:relay.db", "token_key": "${env:OLD_KEY}", "max_size": "1GiB"},
    "platforms": {"shop-a": {"url": "https://shop.example/", "rate": "100/min"}},
}
KEYS = {"OLD_KEY": "A" * 43 + "=", "NEW_KEY": "B" * 43 + "="}


@pytest.mark.parametrize(
    ("section", "key", "value", "needs_restart"),
    [
        ("ingest", "listen", "127.0.0.1:9787", True),
        ("admin", "listen", "127.0.0.1:9788", True),
        ("store", "url", "sqlite:other.db", True),
        ("store", "token_key", "${env:NEW_KEY}", True),
        ("store", "max_size", "2GiB", False),
        ("store", "keep", {"history": "90d"}, True),
        ("ingest", "max_body", "2MiB", False),
        ("admin", "hosts", ["other.internal"], False),
        ("platforms", "shop-a", {"url": "https://shop.example/", "rate": "50/min"}, False),
    ],
)
def test_changes_that_need_a_restart(section: str, key: str, value: object, needs_restart: bool) -> None:
    """Addresses, the store and the key of its tokens are taken at the start; everything else is put in force."""
    after = {**BEFORE, section: {**BEFORE[section], key: value}}  # type: ignore[dict-item]
    old, new = (loads(json.dumps(data), path="config.yaml", environ=KEYS) for data in (BEFORE, after))

    (change,) = difference(old, new).changes

    assert change.path[:2] == (section, key)
    assert change.needs_restart is needs_restart


def test_the_last_key_of_a_mapping_is_one_change() -> None:
    """A header that is taken out, or added, is told once: that the mapping around it is empty now says nothing more."""
    shop = {"url": "https://shop.example/", "rate": "100/min", "headers": {"X-Shop": "17"}}
    with_header = {**BEFORE, "platforms": {"shop-a": shop}}
    one, other = (loads(json.dumps(data), path="config.yaml", environ=KEYS) for data in (with_header, BEFORE))

    path = ("platforms", "shop-a", "headers", "X-Shop")
    assert difference(one, other).changes == (Change(path, "***", None),)
    assert difference(other, one).changes == (Change(path, None, "***"),)
