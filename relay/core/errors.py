"""The few error types callers branch on. Foreign errors are mapped to these at the edge."""

from collections.abc import Mapping, Sequence


class RelayError(Exception):
    """Something that the relay refuses or cannot do; the message says what to do."""


class ConfigUnusable(RelayError):
    """The daemon cannot run with this configuration. A restart does not help, only another configuration."""


class StoreError(RelayError):
    """The store could not do it."""


class StoreFull(StoreError):
    """``store.max_size`` is used up by callbacks that must be kept."""


class StoreFailed(StoreError):
    """A transaction could not be committed. Whether it took effect is unknown until the store has recovered."""


class StoreDamaged(StoreFailed):
    """What was asked needs a page of the file that is not what was written to it. Nothing was done; others go on.

    ``rows`` are the callbacks of a claim that could not be read, by their numbers.
    """

    def __init__(self, text: str, rows: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.rows = rows


class StoreAway(StoreFailed):
    """The server of a shared store cannot be reached, is no primary, or did not write in time.

    ``sent``: something was sent, so the effect is unknown; without it nothing happened.
    """

    def __init__(self, text: str, *, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class Fenced(StoreError):
    """Another host owns the platform now: nothing was changed."""


class StoreEnded(StoreFailed):
    """The store's writer has ended: nothing can be committed until the process starts again."""


class StoreLocked(StoreError):
    """Another daemon holds this store."""


class NotSealed(StoreError):
    """The store is not sealed, so there are no keys to do something with."""


class StoreUnusable(StoreError):
    """The file or directory cannot be used as a store: not a database, too new, no permission."""


class IdempotencyConflict(RelayError):
    """A row repeats an idempotency key with another body; nothing of its request was accepted."""

    def __init__(self, index: int) -> None:
        super().__init__(f"row {index}: this idempotency key was used with another body")
        self.index = index


class NoTarget(RelayError):
    """A routed post has no rows and repeats none that is known; nothing of its request was accepted."""

    def __init__(self, index: int) -> None:
        super().__init__(f"post {index}: nothing takes it")
        self.index = index


class CountMismatch(RelayError):
    """An operation's ``expect_count`` no longer fits; nothing was done."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"{found} callbacks match, {expected} were expected; nothing was done")
        self.expected = expected
        self.found = found


OVERTAKEN = (
    "a newer callback of its key was delivered since: sent again it would arrive out of order. Say reorder "
    "(--reorder), or leave it out"
)
OUTDATED = (
    "it may have changed since it was copied: a crash, a change of owner or a backup came between. Look for it on the "
    "other hosts, or leave it out"
)


class InHistory(RelayError):
    """An operation names a callback that lies in a history file and cannot come back, for the reason ``why``."""

    def __init__(self, callback_id: str, host: str, why: str) -> None:
        super().__init__(f"callback {callback_id} lies in the history file of {host}, and {why}; nothing was done")


class Unfit(RelayError):
    """A payload that cannot be put into the form that its platform takes.

    The message names the field or form in the configuration's words. It never quotes the payload, so it may be logged.
    """


class Unbuildable(RelayError):
    """Some callbacks of a batch fit into no request. ``reasons`` says why, by sequence number."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} callbacks cannot be put into a request")
        self.reasons = reasons


class NoGroups(RelayError):
    """An order is about a group, and the platform has none."""
