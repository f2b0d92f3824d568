"""Does this platform take compressed bodies? We chose to compress, so a refusal of that is charged to no callback.

1. A 415 to a compressed body says no: bodies are plain from then on.
2. A 400, 406, 422, 500 or 501, or a 415 by a rule, may mean no, while nothing compressed was ever accepted. The same
   batch goes again plain. If that is accepted, compression was to blame: plain from then on. If it is refused too, the
   refusal counts.
3. Once something compressed was accepted, only a 415 turns compression off.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Coding:
    """What one platform's answers showed. ``plain``: it gets no compressed bodies; ``proven``: it accepted one."""

    plain: bool = False
    proven: bool = False
    # Batches refused compressed that go plain since; True until the first plain answer. They are forgotten by a restart
    # of the relay, which costs one more request.
    _tried: dict[int, bool] = field(default_factory=dict)
    _compressed: set[int] = field(default_factory=set)  # batches under way

    def compresses(self, batch: int) -> bool:
        """Return whether the next request of ``batch``, by its number, is compressed."""
        return not self.plain and batch not in self._tried

    def sent(self, batch: int) -> None:
        """The request of ``batch`` under way is compressed."""
        self._compressed.add(batch)

    def refused(self, batch: int, *, plainly: bool) -> None:
        """A compressed request was answered as if it could not be read; ``plainly`` by a 415."""
        self.plain = self.plain or plainly
        self._compressed.discard(batch)
        self._tried[batch] = True

    def settled(self, batch: int, *, accepted: bool, again: bool) -> None:
        """Take note of any other answer to ``batch``; ``again``: it keeps its membership and goes again."""
        first_plain = self._tried.pop(batch, None)
        if accepted and batch in self._compressed:
            self.proven = True
        elif accepted and first_plain:
            self.plain = True
        self._compressed.discard(batch)
        if again and first_plain is not None:
            self._tried[batch] = False
