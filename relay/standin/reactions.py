"""What a platform can do to a request, written as one word: ``429+retry-after``, ``reset``, ``apply-then-500``, ...

The same words name the answer above a limit, a random fault and an outage.
"""

import re
from dataclasses import dataclass
from typing import Literal

Act = Literal["answer", "reset", "refuse", "hang", "truncate"]

_ACTS: dict[str, Act] = {"reset": "reset", "refuse": "refuse", "hang": "hang", "truncate": "truncate"}
_STATUS = re.compile(r"([1-5]\d\d)(\+retry-after)?")
_APPLY = "apply-then-"
KINDS = (
    "a status (503), 429+retry-after, 503+retry-after, 200+errcode, reset, refuse, hang, truncate, or apply-then-KIND"
)


@dataclass(frozen=True, slots=True)
class Reaction:
    """One way to treat a request. ``applied`` says whether the platform did the work before that."""

    name: str
    act: Act = "answer"
    status: int = 200
    retry_after: bool = False
    errcode: bool = False
    applied: bool = False


OK = Reaction("200", applied=True)
TOO_MANY = Reaction("429", status=429)
NO_ENCODING = Reaction("415", status=415)
TOO_LARGE = Reaction("413", status=413)
MALFORMED = Reaction("400", status=400)
ERRCODE_BODY = b'{"errcode":45011,"errmsg":"api freq limit"}'  # what 200+errcode says
CUT = Reaction("cut", act="reset")  # the client went before its body was complete


def parse_answer(text: str) -> Reaction:
    """Read one word. Raises ``ValueError`` naming the words there are.

    ``truncate`` and a plain 2xx are applied too: ``truncate`` is a success of which the answer gets lost.
    """
    applied = text.startswith(_APPLY)
    word = text.removeprefix(_APPLY)
    if word == "200+errcode":
        return Reaction(text, errcode=True, applied=applied)
    act = _ACTS.get(word)
    if act is not None:
        return Reaction(text, act=act, applied=applied or act == "truncate")
    match = _STATUS.fullmatch(word)
    if match is None:
        raise ValueError(f"{text!r} is nothing a platform can do: use {KINDS}")
    status = int(match[1])
    return Reaction(text, status=status, retry_after=match[2] is not None, applied=applied or 200 <= status < 300)
