"""A master key that Vault's transit engine wraps (https://developer.hashicorp.com/vault/api-docs/secret/transit).

The master key is made here, once. Vault encrypts it, the store keeps it so, and at each start Vault decrypts it again:
without Vault's key and a token for it the store does not open. While the relay runs it needs Vault no more.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from relay.sealing.master_keys import KEY_BYTES, KeysUnavailable, MasterKey, MasterKeys

_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 64 * 1024
_VERBS: Final = ("keys", "encrypt", "decrypt")


class VaultTransit:
    """Gets the master key from Vault; a ``KeySource``."""

    renews = True

    def __init__(self, url: str, path: str, token: str, *, previous: Sequence[bytes] = ()) -> None:
        """``path`` is ``transit/relay`` for the key ``relay`` of the engine mounted at ``transit``."""
        *mount, name = path.strip("/").removeprefix("v1/").split("/")
        if len(mount) > 1 and mount[-1] in _VERBS:  # transit/keys/relay names the same
            mount.pop()
        self._base = f"{url.rstrip('/')}/v1/{quote('/'.join(mount) or 'transit')}"
        self._name = quote(name, safe="")
        self._token = token
        self._previous = [MasterKey(key) for key in previous]

    def keys(self, kept: str | None) -> tuple[MasterKeys, str | None]:
        """Return the master key that ``kept`` is when unwrapped, or a new one and how it is to be kept.

        ``kept`` may have further lines, for former master keys; one that Vault decrypts no more is left out. Raises
        ``KeysUnavailable``.
        """
        if kept is not None:
            newest, *former = kept.splitlines()
            return MasterKeys(self._unwrapped(newest), [*self._previous, *self._former(former)]), None
        made = os.urandom(KEY_BYTES)
        wrapped = self._call("encrypt", plaintext=base64.b64encode(made).decode()).get("ciphertext")
        if not isinstance(wrapped, str) or not wrapped:
            raise KeysUnavailable(f"{self._base} answered without a ciphertext")
        return MasterKeys(MasterKey(made), self._previous), wrapped

    def _unwrapped(self, kept: str) -> MasterKey:
        plain = self._call("decrypt", ciphertext=kept).get("plaintext")
        try:
            return MasterKey(base64.b64decode(str(plain), validate=True))
        except (ValueError, binascii.Error):
            raise KeysUnavailable(f"{self._base} decrypted something that is no key of the relay") from None

    def _former(self, kept: Sequence[str]) -> Iterator[MasterKey]:
        for each in kept:
            with suppress(KeysUnavailable):  # where it is still needed, the store names it as missing
                yield self._unwrapped(each)

    def _call(self, verb: str, **body: str) -> dict[str, Any]:
        url = f"{self._base}/{verb}/{self._name}"
        headers = {"X-Vault-Token": self._token, "Content-Type": "application/json"}
        request = Request(url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - http(s) by the schema
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                found = json.loads(answer.read(_MOST_BYTES))["data"]
        except HTTPError as error:
            raise KeysUnavailable(f"{url} answered {error.code}; does the token allow {verb} with this key?") from None
        except (URLError, OSError, HTTPException) as error:
            raise KeysUnavailable(
                f"{url} does not answer ({_why(error)}); the store cannot be opened without"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise KeysUnavailable(f"{url} answered something that is not of Vault's transit API") from None
        if not isinstance(found, dict):
            raise KeysUnavailable(f"{url} answered something that is not of Vault's transit API")
        return found


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(reason) or type(reason).__name__
