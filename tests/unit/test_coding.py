"""What answers to compressed bodies show, and what is compressed after them."""

import pytest
from relay.policy.coding import Coding


def sent(coding: Coding, batch: int) -> bool:
    """Send ``batch`` as ``coding`` says; return whether that was compressed."""
    compressed = coding.compresses(batch)
    if compressed:
        coding.sent(batch)
    return compressed


def test_plain_after_a_415() -> None:
    """A 415 settles it for every batch."""
    coding = Coding()
    assert sent(coding, 1)
    coding.refused(1, plainly=True)
    assert not coding.compresses(1)
    assert not coding.compresses(2)


def test_what_plain_bodies_are_accepted_for_is_learned_at_once() -> None:
    """Refused compressed and accepted plain, the same bytes: it was that. Meanwhile only that batch goes plain."""
    coding = Coding()
    assert sent(coding, 1)
    coding.refused(1, plainly=False)
    assert sent(coding, 2)
    coding.refused(2, plainly=False)
    assert not sent(coding, 1)
    coding.settled(1, accepted=True, again=False)
    assert (coding.plain, coding.proven) == (True, False)
    assert not coding.compresses(3)


@pytest.mark.parametrize("again", [False, True])
def test_refused_plain_too_it_was_not_the_compression(again: bool) -> None:
    """Other batches go compressed as before; this one stays plain as long as it lives, and proves nothing any more."""
    coding = Coding()
    assert sent(coding, 1)
    coding.refused(1, plainly=False)
    assert not sent(coding, 1)
    coding.settled(1, accepted=False, again=again)
    assert coding.compresses(1) is not again
    if again:
        assert not sent(coding, 1)
        coding.settled(1, accepted=True, again=False)
    assert (coding.plain, coding.proven) == (False, False)
    assert coding.compresses(2)


def test_a_compressed_body_that_was_accepted_proves_it() -> None:
    """Only a compressed one does, and batches that ended leave nothing behind."""
    coding = Coding()
    coding.settled(1, accepted=True, again=False)  # it was too small to be compressed
    assert not coding.proven
    assert sent(coding, 2)
    coding.settled(2, accepted=True, again=False)
    assert coding == Coding(proven=True)
