"""Ordering keys as numbers: apart from each other, and near each other where they share their start."""

from relay.store.sqlite.file.names import Names

_SECRET = b"0123456789abcdef"


def _hashes(names: Names, platform: str, keys: list[str]) -> list[int]:
    prefix = names.key_prefix(platform)
    return [names.key_hash(prefix, key.encode()) for key in keys]


def test_every_key_of_every_platform_has_its_own_number():
    """No two keys share a number, short ones and neighbours included; a number fits 63 bits and is never 0."""
    names = Names(_SECRET, {})
    keys = [str(number) for number in range(20_000)] + [f"order-{number:08d}" for number in range(20_000)]
    hashes = _hashes(names, "shop-a", keys) + _hashes(names, "shop-b", keys)
    assert len(set(hashes)) == len(hashes)
    assert all(0 < number < 2**63 for number in hashes)


def test_a_key_keeps_its_number_over_restarts():
    """The number depends on secret, platform and key alone, not on what was asked before."""
    keys = [f"order-{number:08d}" for number in range(0, 3_000_000, 1000)]  # more starts than are remembered
    first = _hashes(Names(_SECRET, {}), "shop-a", keys)
    assert _hashes(Names(_SECRET, {}), "shop-a", keys[::-1])[::-1] == first
    assert _hashes(Names(b"another secret!!", {}), "shop-a", keys) != first


def test_order_numbers_made_one_after_the_other_lie_together():
    """A thousand consecutive order numbers fall into one thousandth of all numbers: a group writes few index pages."""
    hashes = _hashes(Names(_SECRET, {}), "shop-a", [f"o{number:011d}" for number in range(1000)])
    assert max(hashes) - min(hashes) < 2**63 // 1000
