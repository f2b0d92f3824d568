"""What one who asks sees of callbacks, groups and platforms. What may be seen, ``relay.privacy.views`` decides.

A text that came with an answer, such as an excerpt or a reason, may repeat what was sent: any callback of the batch. So
the payloads of a batch are looked up where such a text is shown to somebody who may not see every field. Where one of
them is gone, dropped or pruned, nobody can tell any more what the platform's own words repeat: they are hidden.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from relay.core.model import State
from relay.core.receipts import RECEIPTS
from relay.privacy.masking import HIDDEN, PayloadView
from relay.privacy.views import Lens, Lenses
from relay.store.receipts import Receipt
from relay.views.callback_view import CallbackFacts, CallbackView, ListedCallback
from relay.views.operation_view import OperationView
from relay.views.past.survey import FailureGroup
from relay.views.platform import PlatformView
from relay.views.queue import ErrorView
from relay.views.waiting import WaitingView
from relay.web.refusal import Refusal

_MOST_MEMBERS: Final = 500  # callbacks of a batch whose payloads are looked at
_MOST_TEXTS: Final = 10_000  # remembered as they are shown: whoever follows a callback asks again and again
_BESIDE_BYTES: Final = 8 * 1024  # of payloads: so many are looked through in a millisecond, 2 MiB in a second
_Facts = TypeVar("_Facts", bound=CallbackFacts)


class _Sent(NamedTuple):
    """What a batch or a callback brought; ``gone``: not all of it is kept any more."""

    payloads: list[bytes]
    gone: bool


class Payloads(Protocol):
    """The part of a store that has payloads."""

    def callback(self, callback_id: str, *, payload: bool = False) -> Awaitable[CallbackView | None]:
        """Return one callback, or None."""
        ...

    def batch_members(self, batch_id: str, *, limit: int) -> Awaitable[list[str]]:
        """Return the ids of callbacks that a batch carried."""
        ...


class Sight:
    """Shows views as one who asks may see them."""

    def __init__(self, payloads: Payloads, lenses: Lenses) -> None:
        self._payloads = payloads
        self._lenses = lenses
        self._shown: dict[tuple[Lens, str, str], str] = {}  # texts, by lens and the batch or callback they are about

    def lens(self, view: str | None) -> Lens:
        """Return the lens of a view."""
        return self._lenses.of(view)

    def payload(self, view: str | None, payload: bytes) -> PayloadView:
        """Return a payload as far as it may be seen."""
        return self._lenses.of(view).payload(payload)

    async def callback(self, view: str | None, found: CallbackView) -> CallbackView:
        """Return a callback without its payload, its key and texts as far as they may be seen."""
        lens = self._lenses.of(view)
        found = replace(found, payload=UNSET)
        if lens.whole:
            return found
        shown = await self._facts(lens, found)
        if found.waiting is not UNSET:
            shown.waiting = await self._waiting(lens, found.waiting, found.id)
        shown.attempts = [
            replace(
                each,
                reason=await self._text(lens, each.reason, each.batch),
                excerpt=await self._text(lens, each.excerpt, each.batch, words_of=each.batch),
            )
            for each in found.attempts
        ]
        return shown

    async def listed(self, view: str | None, items: Iterable[ListedCallback]) -> list[ListedCallback]:
        """Return callbacks of a list as far as they may be seen."""
        lens = self._lenses.of(view)
        return [item if lens.whole else await self._facts(lens, item) for item in items]

    async def groups(self, view: str | None, items: Iterable[FailureGroup], *, samples: bool) -> list[FailureGroup]:
        """Return groups of failures; without ``samples`` no callback's id stands in them."""
        lens, shown = self._lenses.of(view), []
        for item in items:
            newest = item.sample if isinstance(item.sample, str) else ""
            found = None if lens.whole else await self._payloads.callback(newest)
            about = newest if found is None else found.batch or found.id
            shown.append(
                replace(
                    item,
                    message=await self._text(lens, item.message, about, words_of=newest),
                    reason=await self._text(lens, item.reason, about),
                    code=None if item.code is None else await self._text(lens, item.code, about),
                    sample=newest if samples else UNSET,
                )
            )
        return shown

    async def platform(self, view: str | None, found: PlatformView) -> PlatformView:
        """Return a platform, what it answered last as far as it may be seen."""
        lens = self._lenses.of(view)
        if lens.whole:
            return found
        error, stopped = found.last_error, found.stopped_groups
        batch = error.batch if isinstance(error, ErrorView) else ""
        if isinstance(error, ErrorView):
            reason = await self._text(lens, error.reason, batch)
            excerpt = await self._text(lens, error.excerpt, batch, words_of=batch)
            error = replace(error, reason=reason, excerpt=excerpt)
        elif error is not None:
            error = await self._text(lens, error, batch)
        items = [replace(each, reason=await self._text(lens, each.reason, batch)) for each in stopped.items]
        return replace(
            found,
            reason=await self._text(lens, found.reason, batch),
            last_error=error,
            stopped_groups=replace(stopped, items=items),
        )

    async def reason(self, view: str | None, reason: str, callback_id: str) -> str:
        """Return why a callback is in its state, as far as it may be seen."""
        lens = self._lenses.of(view)
        if not reason or lens.whole:
            return reason
        found = await self._payloads.callback(callback_id)
        return await self._text(lens, reason, callback_id if found is None else found.batch or found.id)

    def operation(self, view: str | None, found: OperationView) -> OperationView:
        """Return an operation, the ordering key of its filter and what stands there of answers as far as both may be
        seen."""
        lens, wanted = self._lenses.of(view), found.filter
        seen: dict[str, str] = {} if wanted.key is UNSET else {"key": lens.key(wanted.key)}
        words = lens.words()
        seen |= {name: words(each) for name in ("reason", "code") if (each := getattr(wanted, name)) is not UNSET}
        return replace(found, filter=replace(wanted, **seen)) if seen else found

    async def _facts(self, lens: Lens, found: _Facts) -> _Facts:
        about = found.batch or found.id
        own = found.state == State.SUPERSEDED.word  # then its reason is one of the relay's, whatever its payload holds
        return replace(
            found,
            key=None if found.key is None else lens.key(found.key),
            code=None if found.code is None else await self._text(lens, found.code, about),
            reason=found.reason if own else await self._text(lens, found.reason, about),
            message=await self._text(lens, found.message, about, words_of=found.id),
        )

    async def _waiting(self, lens: Lens, found: WaitingView, about: str) -> WaitingView:
        behind = found.behind
        if behind is not UNSET:
            inner = behind.waiting
            behind = replace(
                behind,
                reason=await self._text(lens, behind.reason, behind.id),
                waiting=inner if inner is UNSET else await self._waiting(lens, inner, behind.id),
            )
        reason = found.reason if found.reason is UNSET else await self._text(lens, found.reason, about)
        return replace(found, behind=behind, reason=reason)

    async def _text(self, lens: Lens, text: str, about: str, *, words_of: str = "") -> str:
        """Return a text as it may be seen; ``about``: the batch or the callback that was answered so, empty: none.

        ``words_of``: it is in the platform's own words, about this batch or callback.
        """
        if not text or lens.whole:
            return text
        asked = (lens, f"{about} {words_of}", text)
        shown = self._shown.get(asked)
        if shown is None:
            sent = await self._sent(about)
            told = sent if words_of == about else await self._sent(words_of)
            shown = HIDDEN if words_of and told.gone else await _without(lens, sent.payloads, text)
            while len(self._shown) >= _MOST_TEXTS:
                del self._shown[next(iter(self._shown))]
            self._shown[asked] = shown
        return shown

    async def _sent(self, about: str) -> _Sent:
        """Return what a batch, or a callback, brought that is not the relay's own.

        A receipt has the relay's words, such as its reason ``200 OK``. They may repeat what its callback brought, so
        that is returned in their place; or the whole receipt, where the callback is gone or too many are asked about.
        """
        sent, told_of = [], set()
        carried = await self._carried(about)
        gone = not carried
        for each in carried:
            if each is None or not isinstance(each.payload, bytes):
                gone = True
                continue
            if each.platform != RECEIPTS:
                sent.append(each.payload)
                continue
            receipt = msgspec.json.decode(each.payload, type=Receipt)
            origin = await self._payloads.callback(receipt.id, payload=True)
            if origin is None or not isinstance(origin.payload, bytes) or len(sent) >= _MOST_MEMBERS:
                sent.append(each.payload)
                continue
            sent.append(msgspec.json.encode(receipt.posted))
            place = origin.batch or origin.id
            if place not in told_of:
                told_of.add(place)
                sent += [one.payload for one in await self._carried(place) if one and isinstance(one.payload, bytes)]
        return _Sent(sent, gone)

    async def _carried(self, about: str) -> list[CallbackView | None]:
        """Return the callbacks of a batch, or the one, with their payloads; None for one that is pruned."""
        if not about:
            return []
        members = await self._payloads.batch_members(about, limit=_MOST_MEMBERS) if about.startswith("b") else [about]
        return [await self._payloads.callback(member, payload=True) for member in members]


async def _without(lens: Lens, payloads: Sequence[bytes], text: str) -> str:
    """Return a text without what it repeats of payloads; much of them is looked through in a thread."""
    if sum(map(len, payloads)) > _BESIDE_BYTES:
        return await asyncio.to_thread(lambda: lens.words(*payloads)(text))
    return lens.words(*payloads)(text)


def unknown_callback(callback_id: str) -> Refusal:
    """Return the problem of an id that no callback here has."""
    words = "it may have been pruned (store.keep), or lie in the history file of another host (relay hosts)"
    return Refusal("unknown_callback", f"no callback '{callback_id[:40]}' here; {words}")
