"""The schema of ``privacy``: what protects the personal data in callbacks."""

import base64
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, PlainValidator, Tag, WithJsonSchema, model_validator

from relay.config.problems import BadValue
from relay.config.schema.protection.shown import Shown
from relay.config.schema.values import PlainUrl, Secret, Section, Text, only_list, reading, required, setting

_KEY_BYTES = 32


def _parse_key(value: Any) -> bytes:
    if not isinstance(value, str):
        raise BadValue("E013", "a key must be text", "put it in quotes")
    try:
        key = base64.b64decode(value.strip(), validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise BadValue("E031", f"the key must be {_KEY_BYTES} bytes in base64", "relay keys new")
    return key


SealingKey = Annotated[
    bytes,
    PlainValidator(reading(_parse_key)),
    WithJsonSchema({"type": "string", "examples": ["${file:kek}"]}),
]


class VaultKey(Section):
    """A key that Vault's transit engine wraps; the relay keeps it wrapped and has it unwrapped at each start."""

    kms: Literal["vault"] = required("The kind of service: vault, or what speaks its transit API.")
    url: PlainUrl = required("Where it is: https://vault.example:8200.")
    path: Text = required("Where its key is: transit/relay for the key `relay` of the engine at `transit`.")
    token: Secret = required("Sent as X-Vault-Token; it needs encrypt and decrypt with that key.")


def _text_or_kms(value: Any) -> str:
    return "kms" if isinstance(value, dict | VaultKey) else "text"


AnySealingKey = Annotated[
    Annotated[SealingKey, Tag("text")] | Annotated[VaultKey, Tag("kms")], Discriminator(_text_or_kms)
]


class Encrypt(Section):
    """The keys that everything in the store is sealed with."""

    key: AnySealingKey = required(
        "32 bytes in base64, as a ${file:...} reference (`relay keys new` prints one), or {kms: vault, url, path, "
        "token}. It wraps the data keys, which seal payloads, ordering keys, platforms' words and excerpts of answers."
    )
    previous: Annotated[tuple[SealingKey, ...], BeforeValidator(only_list)] = setting(
        [], "Former keys, which still open what they wrapped. After `relay keys rotate` they may go."
    )

    @model_validator(mode="after")
    @reading
    def _differ(self) -> Self:
        """Refuse the key in force among the former ones: it was most likely not exchanged."""
        if self.key in self.previous:
            raise BadValue("E033", "privacy.encrypt.key stands under previous too", "put the new key in key")
        return self


class Privacy(Shown):
    """What protects the personal data in callbacks, and what people see of it."""

    encrypt: Encrypt | None = setting(
        None, "Seals what lies in the store. Not set: it lies there as it came, in a file of mode 0600."
    )
