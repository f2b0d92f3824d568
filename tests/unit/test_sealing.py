"""Sealed values open in their own place only, with their own key, and keys are wrapped."""

import base64

import pytest
from relay.sealing.codec import NOBODY, Codec, Column, WrappedKey, frame, unframed
from relay.sealing.master_keys import DoesNotOpen, GivenKeys, MasterKey, MasterKeys, new_key

OLD, NEW = MasterKey(b"o" * 32), MasterKey(b"n" * 32)
DAY_S = 86400.0


def codec(master: MasterKey = OLD) -> Codec:
    """What seals for an empty store."""
    return Codec(MasterKeys(master))


def restarted(before: Codec, masters: MasterKeys) -> Codec:
    """What the next process makes of the data keys that one kept."""
    return Codec(masters, before.kept)


def test_a_value_opens_in_its_own_place_only() -> None:
    """Another row, another column, another platform, a changed byte, a cut end: none of these opens."""
    seals = codec()
    first, second = seals.seal_rows(Column.BODY, 1, 0.0, (7, 8), (b"one", b"two"))
    assert seals.open_rows(Column.BODY, 1, (7, 8), (first, second)) == [b"one", b"two"]
    assert seals.open_rows(Column.BODY, 1, (7, 8), (second, first)) == [None, None]
    assert seals.open_rows(Column.BODY, 1, (7, 8), (first, first)) == [b"one", None]
    assert seals.open_rows(Column.MESSAGE, 1, (7,), (first,)) == [None]
    assert seals.open_rows(Column.BODY, 2, (7,), (first,)) == [None]
    for at in range(len(first)):
        changed = bytearray(first)
        changed[at] ^= 1
        assert seals.open_rows(Column.BODY, 1, (7,), (bytes(changed),)) == [None], at
        assert seals.open_rows(Column.BODY, 1, (7,), (first[:at],)) == [None], at


def test_a_value_sealed_with_another_data_key_does_not_pass_for_this_one() -> None:
    """A value that names a data key which did not seal it does not open."""
    seals = codec()
    today = seals.seal(Column.BODY, 1, 0.0, 7, b"text")
    tomorrow = seals.seal(Column.BODY, 1, DAY_S, 7, b"text")
    assert today[:4] != tomorrow[:4]
    assert seals.open_rows(Column.BODY, 1, (7,), (tomorrow[:4] + today[4:],)) == [None]


def test_the_same_text_never_looks_the_same() -> None:
    """Equal texts of equal rows are sealed to different values."""
    seals = codec()
    assert len({seals.seal(Column.BODY, 1, 0.0, 7, b"text") for _ in range(50)}) == 50


def test_each_platform_and_day_has_a_data_key_of_its_own() -> None:
    """Keys differ by platform and day; within a day a platform keeps its key, also after a restart."""
    seals = codec()
    for platform, at in ((1, 0.0), (1, 80000.0), (1, DAY_S), (2, 0.0)):
        seals.seal(Column.BODY, platform, at, 7, b"text")
    assert [(key.platform, key.day) for key in seals.kept] == [(1, 0), (1, 1), (2, 0)]
    again = restarted(seals, MasterKeys(OLD))
    again.seal(Column.BODY, 1, 5.0, 8, b"more")
    assert again.fresh == []
    again.seal(Column.BODY, 1, 2 * DAY_S, 8, b"more")
    assert [key.id for key in again.fresh] == [4]


def test_a_data_key_is_replaced_before_it_has_sealed_too_much() -> None:
    """With random nonces a key is good for 2^32 values; it is left at half of that."""
    seals = codec()
    seals.seal(Column.BODY, 1, 0.0, 7, b"text")
    seals._keys[1].left = 1
    both = seals.seal_rows(Column.BODY, 1, 0.0, (8, 9), (b"a", b"b"))
    assert {value[:4] for value in both} == {(2).to_bytes(4, "little")}
    assert seals.open_rows(Column.BODY, 1, (8, 9), both) == [b"a", b"b"]


def test_a_dropped_key_opens_nothing_any_more() -> None:
    """What a forgotten data key sealed stays sealed; other values open, and the key's day gets another key."""
    seals = codec()
    gone, stays = seals.seal(Column.BODY, 1, 0.0, 7, b"gone"), seals.seal(Column.BODY, 1, DAY_S, 8, b"stays")
    seals.drop([1])
    assert seals.open_rows(Column.BODY, 1, (7, 8), (gone, stays)) == [None, b"stays"]
    with pytest.raises(DoesNotOpen):
        seals.open(Column.BODY, 1, 7, gone)
    seals.seal(Column.BODY, 1, 0.0, 9, b"new")
    assert [key.id for key in seals.kept] == [2, 3]


def test_rotation_wraps_anew_and_rewrites_nothing() -> None:
    """After a rotation the new master key alone opens what was sealed before; the old one alone opens nothing."""
    seals = codec()
    value = seals.seal(Column.EXCERPT, 1, 0.0, 7, b"text")
    seals.change(MasterKeys(NEW, [OLD]))
    seals.rewrapped(seals.wrapped_anew(NEW))
    assert seals.wrapped_anew(NEW) == []
    assert restarted(seals, MasterKeys(NEW)).open(Column.EXCERPT, 1, 7, value) == b"text"
    with pytest.raises(DoesNotOpen, match=NEW.id):
        restarted(seals, MasterKeys(OLD))


def test_new_keys_are_refused_where_an_old_one_is_still_needed() -> None:
    """The master key of a data key cannot be taken away."""
    seals = codec()
    seals.seal(Column.BODY, 1, 0.0, 7, b"text")
    with pytest.raises(DoesNotOpen, match=OLD.id):
        seals.change(MasterKeys(NEW))
    assert seals.masters.current is OLD


def test_a_wrapped_key_is_bound_to_its_platform_and_day() -> None:
    """A data key put in another's place does not open."""
    seals = codec()
    seals.seal(Column.BODY, 1, 0.0, 7, b"text")
    (kept,) = seals.kept
    for moved in (kept._replace(platform=2), kept._replace(day=1), kept._replace(id=9), kept._replace(wrapped=b"")):
        with pytest.raises(DoesNotOpen):
            Codec(MasterKeys(OLD), [moved])


def test_the_stores_own_key_has_no_day() -> None:
    """What belongs to no platform is sealed with one key, whatever the day."""
    seals = codec()
    values = [seals.seal(Column.FILTER, NOBODY, at, 1, b"text") for at in (0.0, 9 * DAY_S)]
    assert seals.open_rows(Column.FILTER, NOBODY, (1, 1), values) == [b"text", b"text"]
    assert [(key.platform, key.day) for key in seals.kept] == [(NOBODY, 0)]


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff\xff\xff\xff", b"\0\0\0\0"])
@pytest.mark.parametrize("key", [None, "", "o1", "订单-" * 300])
def test_a_payload_and_its_key_come_apart_again(payload: bytes, key: str | None) -> None:
    """Whatever payload and key are, the two that were framed come out."""
    assert unframed(frame(payload, key)) == (payload, key)


def test_keys_are_known_by_an_id_that_tells_nothing_of_them() -> None:
    """A new key has 32 bytes; its id is short, stable and not a part of it."""
    key = base64.b64decode(new_key())
    assert len(key) == 32
    assert MasterKey(key).id == MasterKey(key).id != MasterKey(b"x" * 32).id
    assert MasterKey(key).id not in key.hex()
    with pytest.raises(ValueError, match="32 bytes"):
        MasterKey(b"short")


def test_given_keys_ask_the_store_to_keep_nothing() -> None:
    """The configuration's keys come with each start."""
    masters, keep = GivenKeys(b"n" * 32, [b"o" * 32]).keys(None)
    assert (list(masters.ids), keep) == ([NEW.id, OLD.id], None)
    assert isinstance(masters.get(OLD.id), MasterKey)
    assert masters.get("none") is None


def test_wrapped_keys_are_plain_facts() -> None:
    """What a store keeps of a data key holds no key."""
    seals = codec()
    seals.seal(Column.BODY, 1, 0.0, 7, b"text")
    (kept,) = seals.kept
    assert isinstance(kept, WrappedKey)
    assert seals._keys[1].plain not in kept.wrapped
