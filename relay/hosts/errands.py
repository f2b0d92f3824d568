"""Asks the owner of a platform to do something, from any host: a question on a channel, and its answer on another.

A question is asked again until its answer comes. It is done once: a repeat of one that is done is answered as before.
A question that nobody answers in time has perhaps been done: pausing, resuming and the like may be asked again.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from itertools import count
from typing import Any, Final, Protocol, TypeVar

import msgspec

from relay.core.errors import Fenced, RelayError, StoreError, StoreFailed

_WITHIN_S: Final = 5.0  # longer than a hand-over takes, so that most questions outlive one
_AGAIN_S: Final = 1.0  # a question that nobody took is asked again
_KEPT: Final = 100  # answers, for repeats of their questions: these come within seconds

_M = TypeVar("_M")

Do = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
"""``do(platform, verb, words)``: carries out a question. Raises ``KeyError`` for a platform that is not there."""


class Errand(msgspec.Struct, frozen=True):
    """What is asked of the owner of ``platform``, or of the host of that name when ``host`` is set."""

    number: str
    platform: str
    verb: str
    words: dict[str, Any]


class ErrandDone(msgspec.Struct, frozen=True):
    """What came of it: ``value``, or an ``error`` in words; ``unknown``: the platform is not configured there."""

    number: str
    value: Any = None
    error: str = ""
    unknown: bool = False


class Publishing(Protocol):
    """What carries messages to all hosts, this one too."""

    async def publish(self, channel: str, text: str) -> None:
        """Tell all who listen. Raises ``StoreError``."""
        ...


class Errands:
    """Asks and answers for one host. ``asks`` and ``answers`` are the names of the channels."""

    def __init__(self, host: str, publishing: Publishing, *, prefix: str, owns: Callable[[str], bool], do: Do) -> None:
        # A process that starts anew under the host's name must not ask under the numbers of the one before.
        self._asker = f"{host}.{secrets.token_hex(4)}"
        self._publishing = publishing
        self.asks = f"{prefix}:asks"
        self.answers = f"{prefix}:answers"
        self._owns = owns
        self._do = do
        self._numbers = count(1)
        self._waiting: dict[str, asyncio.Future[ErrandDone]] = {}
        self._under_way: set[str] = set()  # numbers of the questions that are being done here
        self._done: dict[str, ErrandDone] = {}  # the last answers, oldest first
        self._work: set[asyncio.Task[None]] = set()

    async def ask(self, platform: str, verb: str, *, longer_s: float = 0.0, **words: Any) -> Any:
        """Let the owner do it and return what that came to; ``longer_s`` is what it may take beside the usual time.

        Raises ``KeyError`` and ``StoreError``.
        """
        number = f"{self._asker}.{next(self._numbers)}"
        question = msgspec.json.encode(Errand(number, platform, verb, words)).decode()
        self._waiting[number] = waits = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_WITHIN_S + longer_s):
                answer = await self._asked(question, waits)
        except TimeoutError:
            raise StoreFailed(f"no host owns {platform} now; one does within 20 s, ask again then") from None
        finally:
            del self._waiting[number]
        if answer.unknown:
            raise KeyError(platform)
        if answer.error:
            raise StoreFailed(answer.error)
        return answer.value

    async def _asked(self, question: str, waits: asyncio.Future[ErrandDone]) -> ErrandDone:
        while True:
            await self._publishing.publish(self.asks, question)
            done, _ = await asyncio.wait((waits,), timeout=_AGAIN_S)
            if done:
                return waits.result()

    def heard_question(self, text: str) -> None:
        """Take a question from the channel ``asks``. One that is done is answered again, and not done again."""
        question = _read(text, Errand)
        if question is None:
            return
        done = self._done.get(question.number)
        if done is not None:
            self._start(self._tell(done), question)
        elif self._owns(question.platform) and question.number not in self._under_way:
            self._under_way.add(question.number)
            self._start(self._serve(question), question)

    def _start(self, work: Coroutine[Any, Any, None], question: Errand) -> None:
        task = asyncio.create_task(work, name=f"errand {question.verb}")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def heard_answer(self, text: str) -> None:
        """Take an answer from the channel ``answers``."""
        answer = _read(text, ErrandDone)
        if answer is None:
            return
        waits = self._waiting.get(answer.number)
        if waits is not None and not waits.done():
            waits.set_result(answer)

    async def _serve(self, question: Errand) -> None:
        try:
            value = await self._do(question.platform, question.verb, question.words)
            answer = ErrandDone(question.number, value)
        except Fenced:  # handed over meanwhile, and nothing was done: the next owner hears the question again
            return
        except KeyError:
            answer = ErrandDone(question.number, unknown=True)
        except RelayError as error:
            answer = ErrandDone(question.number, error=str(error))
        finally:
            self._under_way.discard(question.number)
        self._done[question.number] = answer
        if len(self._done) > _KEPT:
            del self._done[next(iter(self._done))]
        await self._tell(answer)

    async def _tell(self, answer: ErrandDone) -> None:
        try:
            await self._publishing.publish(self.answers, msgspec.json.encode(answer).decode())
        except StoreError:  # the store tells of it; the question comes again
            return


def _read(text: str, kind: type[_M]) -> _M | None:
    """Return a message; None for an empty one, and for one of a host of another version that says it in another way."""
    try:
        return msgspec.json.decode(text, type=kind) if text else None
    except msgspec.DecodeError:
        return None
