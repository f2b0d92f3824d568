"""What an operation shows of its filter."""

from dataclasses import fields

from msgspec import structs
from relay.core.model import Filter
from relay.views.moments import plain
from relay.views.operation_view import FilterView, filter_view


def test_every_key_of_a_filter_is_shown() -> None:
    """A key that filters has its place in the view: one without would be left out in silence."""
    assert [each.name for each in structs.fields(FilterView)] == [each.name for each in fields(Filter)]


def test_only_what_was_said_is_shown() -> None:
    """An empty key fits every callback and is left out; a time is told as people know it."""
    wanted = Filter(platform="shop-a", ids=("a", "b"), since=1_790_000_000.0)

    assert plain(filter_view(wanted)) == {
        "platform": "shop-a",
        "ids": ["a", "b"],
        "since": "2026-09-21T14:13:20.000Z",
    }
