"""Payloads that a configured platform could never be sent are refused when they are posted."""

from functools import partial
from pathlib import Path

import pytest
from relay.core.model import NewCallback
from relay.daemon.intake import directory
from relay.ingest.post_options import read_post_options
from relay.ingest.rows import PlatformIntake, Turn, envelope_rows, one_row, plain_rows
from relay.web.refusal import Refusal
from tests.unit.config_files import loaded

CONFIG = """
version: 1
defaults: {batch: {max_bytes: 1KiB}}
platforms:
  mapped: {url: https://a.example/, envelope: {kind: object, items_at: o, item: {no: order.id}}}
  form: {url: https://a.example/, envelope: {kind: form, items_at: list}}
  target: {url: "https://a.example/{order_id}?k={key}", envelope: single}
  named: {url: https://a.example/, results: {shape: by_id, at: failed, id: ref}}
  plain: {url: https://a.example/}
"""


@pytest.fixture
def intakes(tmp_path: Path) -> dict[str, PlatformIntake]:
    """Every platform's intake."""
    return dict(directory(loaded(tmp_path, CONFIG)).platforms)


def accept(platform: PlatformIntake, payload: bytes, key: str | None = None) -> NewCallback:
    """Accept one payload."""
    headers = {} if key is None else {"Relay-Key": key}
    return one_row(payload, platform, read_post_options(headers, platform), None)


def turn(*lines: bytes) -> Turn:
    """Return the lines of a request that are read in one go."""
    return Turn(1, lines, sum(map(len, lines)))


@pytest.mark.parametrize(
    ("platform", "payload", "code", "words"),
    [
        ("mapped", b'{"order":{}}', "unfit_payload", "order.id is missing"),
        ("mapped", b"{", "invalid_json", "byte 1"),
        ("form", b'{"a":"%b"}' % (b"%" * 400), "too_large", "batch.max_bytes"),
        ("target", b'{"order_id":null}', "unfit_payload", "{order_id} is missing"),
        ("target", b'{"order_id":1}', "unfit_payload", "{key} is missing"),
        ("target", b"text", "invalid_json", "byte 4"),
        ("named", b"{}", "unfit_payload", "results.item_id ref is missing"),
    ],
)
def test_refused_with_the_reason(
    intakes: dict[str, PlatformIntake], platform: str, payload: bytes, code: str, words: str
) -> None:
    """The problem names the field, never a value; in NDJSON also the line."""
    with pytest.raises(Refusal) as caught:
        accept(intakes[platform], payload)
    assert caught.value.code == code
    assert words in caught.value.detail
    options = read_post_options({}, intakes[platform])
    enveloped = turn(b"", b'{"payload":%b}' % payload)
    for read in (
        partial(plain_rows, turn(b"", payload), intakes[platform], options, 1 << 20),
        partial(envelope_rows, enveloped, intakes[platform], options, 1 << 20),
    ):
        with pytest.raises(Refusal) as caught:
            read()
        assert caught.value.code == code or payload in (b"{", b"text")
        assert caught.value.extra["line"] == 2


def test_accepted_with_its_size_in_a_body(intakes: dict[str, PlatformIntake]) -> None:
    """What is kept is what the callback takes in the platform's form; a long payload may take little there."""
    long = b'{"order":{"id":7},"pad":"%b"}' % (b"x" * 5000)
    assert accept(intakes["mapped"], long).body_bytes == len(b'{"no":7}')
    assert accept(intakes["form"], b'{"a":1}').body_bytes == len("%7B%22a%22%3A1%7D")
    assert accept(intakes["target"], b'{"order_id":1}', "k").body_bytes == len(b'{"order_id":1}')
    assert accept(intakes["plain"], b"{}").body_bytes is None
    rows = plain_rows(turn(b'{"a":1}'), intakes["form"], read_post_options({}, intakes["form"]), 1 << 20)
    assert rows[0].body_bytes == 17
