"""Answers to posts: what was accepted, after its commit."""

from typing import Annotated

from msgspec import Struct

from relay.views.moments import Instant, told


class AcceptedView(Struct, frozen=True):
    """One callback."""

    id: Annotated[str, told("its id; of a repeat the first one's")]
    platform: Annotated[str, told("where it goes")]
    state: Annotated[str, told("pending; dead where it cannot be sent; of a repeat its state now")]


class AcceptedLines(Struct, frozen=True):
    """The lines of an NDJSON post."""

    accepted: Annotated[int, told("callbacks that are new")]
    duplicates: Annotated[int, told("callbacks that were accepted before")]
    ids: Annotated[list[str], told("one for each line, in their order")]


class RoutedView(Struct, frozen=True):
    """One callback that the routes sent to its platforms."""

    ids: Annotated[dict[str, str], told("its id at each platform")]


class RoutedLines(Struct, frozen=True):
    """The lines of a routed NDJSON post."""

    accepted: Annotated[int, told("callbacks that are new: a line that goes to two platforms counts as two")]
    duplicates: Annotated[int, told("callbacks that were accepted before")]
    ids: Annotated[list[dict[str, str]], told("for each line, in their order, its id at each platform")]


class CancelledView(Struct, frozen=True):
    """One callback that was taken back."""

    id: Annotated[str, told("its id")]
    state: Annotated[str, told("always superseded")] = "superseded"
    reason: Annotated[str, told("always cancelled")] = "cancelled"


class TakenBackView(Struct, frozen=True):
    """All that was pending of an ordering key, taken back."""

    cancelled: Annotated[int, told("how many callbacks; 0 where nothing of the key was pending")]
    ids: Annotated[list[str], told("their ids, in the order of the key")]


class TakenSlots(Struct, frozen=True):
    """Slots that were taken for requests of others than the relay."""

    slots: Annotated[list[str], told("their names, for the release; one for each request")]
    send_by: Annotated[Instant, told("when the last request must have been sent")]


class ReleasedSlots(Struct, frozen=True):
    """Slots that were given back."""

    released: Annotated[int, told("how many: what was given back before, or is no slot, is passed over")]


class ReportedRequests(Struct, frozen=True):
    """Requests that were sent without slots."""

    counted: Annotated[int, told("how many count against the limits from now on")]
