"""The schema of ``receipts``: where the order center hears what became of its callbacks, and of which ones."""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, model_validator

from relay.config.problems import BadValue
from relay.config.schema.platform import PlatformSection
from relay.config.schema.values import only_list, reading, setting
from relay.core.errors import Unfit
from relay.core.receipts import ReceiptRules
from relay.wire.payload.extract import InvalidJson

_SETTLED: Final = {
    "key": "receipts keep the order of the callbacks' keys",
    "group": "receipts have no groups",
    "accept": "nobody posts receipts",
    "coalesce": "each end has its receipt",
    "on_dead": "a receipt that cannot be delivered holds up no other",
}
"""Keys of a platform that say nothing here, and why."""


class ReceiptsSettings(PlatformSection):
    """A callback back to the order center for each end; every key of a platform but five holds here too."""

    on: Annotated[
        tuple[Literal["dead", "expired", "held", "delivered", "superseded"], ...], BeforeValidator(only_list)
    ] = setting(
        ["dead", "expired", "held"], "What there are receipts of: each final state, and being held for a person."
    )

    @model_validator(mode="after")
    @reading
    def _of_its_own(self) -> "ReceiptsSettings":
        """Refuse what would say nothing: receipts are one queue with rules of its own."""
        if self.preset is not None:
            raise BadValue(
                "E051", "a preset is not read here", "write its keys: relay presets show NAME", at=("preset",)
            )
        for key, why in _SETTLED.items():
            if key in self.model_fields_set:
                raise BadValue("E051", f"{key} has no meaning here: {why}", "remove it", at=(key,))
        if not self.on:
            raise BadValue("E051", "`on` is empty: there would be no receipts", "name an end, or remove it", at=("on",))
        return self

    @property
    def in_store(self) -> ReceiptRules:
        """Return what the store must know of it."""
        return ReceiptRules(
            on=frozenset(self.on), expires_s=self.expires, size=self._size if self.envelope.compiled.measured else None
        )

    def _size(self, payload: bytes, key: str | None, event: str | None) -> int:
        try:
            return self.envelope.compiled.size(payload, key, event)
        except (InvalidJson, Unfit):  # no body can be built of it: it becomes a dead letter when its turn comes
            return len(payload)
