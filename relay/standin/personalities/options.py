"""The options of a personality, as words: ``wechat-shipping:fail=0.05,token_requests=200,over_at=300``."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration
from relay.core.raw import JsonObject


@dataclass(frozen=True, slots=True)
class Options:
    """How a personality behaves. ``fail`` and ``retry`` are shares of the callbacks; one seed picks the same ones."""

    fail: float = 0.0  # this share is refused for good
    retry: float = 0.0  # this share is refused once, and taken the next time
    fail_field: str = "sandbox_fail"  # a callback with this field true is refused for good
    seed: str = ""
    token_ttl_s: float = 7200.0
    token_requests: int = 0  # a token ends after this many requests; 0: only by its time
    over_at: int = 0  # from this request on, ``over_for`` requests are answered as above the limit; 0: none
    over_for: int = 3
    over_wait_s: float = 1.0  # the wait that these answers ask for
    bearer: bool = False  # ask for a token, also if the real platform does not
    app_id: str = "sandbox-app"
    secret: str = "sandbox-secret"  # noqa: S105 - of the stand-in
    token: str = "sandbox-token"  # noqa: S105 - of the stand-in: a session key that is good from the start

    def fails(self, raw: bytes, named: Any) -> bool:
        """Return whether a callback is refused for good. ``named`` are its fields, if it has any."""
        if isinstance(named, Mapping) and named.get(self.fail_field) is True:
            return True
        return self._share(b"fail", raw) < self.fail

    def fails_once(self, raw: bytes) -> bool:
        """Return whether a callback is refused the first time."""
        return self._share(b"retry", raw) < self.retry

    def _share(self, kind: bytes, raw: bytes) -> float:
        digest = hashlib.blake2b(raw, key=self.seed.encode(), person=kind, digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def parse_options(text: str) -> Options:
    """Read ``name=value`` words separated by commas. Raises ``ValueError`` that names all options."""
    values: JsonObject = {}
    for word in text.split(",") if text else ():
        name, equals, value = word.partition("=")
        read = _READERS.get(name)
        if read is None or not equals:
            raise ValueError(f"{word!r} is no option of a personality: use {', '.join(f'{n}=' for n in _READERS)}")
        try:
            values[_FIELDS.get(name, name)] = read(value)
        except BadValue as bad:
            raise ValueError(f"{name}: {bad.message}" + (f"; {bad.hint}" if bad.hint else "")) from bad
        except ValueError as error:
            raise ValueError(f"{name}={value}: {error}") from error
    return Options(**values)


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError("a share lies between 0 and 1")
    return value


def _count(text: str) -> int:
    if not text.isdigit():
        raise ValueError("write a whole number")
    return int(text)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("write on or off")
    return text == "on"


_FIELDS = {"token_ttl": "token_ttl_s", "over_wait": "over_wait_s"}
_READERS: dict[str, Callable[[str], Any]] = {
    "fail": _probability,
    "retry": _probability,
    "fail_field": str,
    "seed": str,
    "token_ttl": parse_duration,
    "token_requests": _count,
    "over_at": _count,
    "over_for": _count,
    "over_wait": parse_duration,
    "bearer": _switch,
    "app_id": str,
    "secret": str,
    "token": str,
}
