"""The token endpoint, without the network: what to ask it, and what its answer says (RFC 6749 sections 4.4, 5, 6).

The names, places and form of everything can be set, because platforms differ: WeChat wants a GET with ``appid`` and
``secret`` and answers errors as 200 with an ``errcode``; others want JSON and nest the token under ``data``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from relay.core.errors import Unfit
from relay.core.secret import NO_SECRET, Secret
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.classify import failure_reason
from relay.wire.answers.json_path import JsonPath
from relay.wire.answers.reading import Reading, printable
from relay.wire.signing.authorise import basic
from relay.wire.signing.draft import Draft

# RFC 6749 section 5.2 and RFC 8628 name these; another word of an endpoint is for people, not for a reason.
_ERRORS: Final = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_scope", "access_denied", "server_error", "temporarily_unavailable", "slow_down"),
    }
)
_NUMBERED: Final = ("errcode", "code", "error_code", "err_code")
_WORDS: Final = ("error_description", "errmsg", "message", "msg", "error_msg", "err_msg", "error")
_CODE: Final = re.compile(r"-?[A-Za-z0-9_.]{1,32}", re.ASCII)
_LONGEST_S: Final = 366 * 86400.0
_MAX_TOKEN_CHARS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class TokenQuestion:
    """How one token endpoint is asked. ``extra`` parameters win over those made here."""

    url: str
    grant: Literal["client_credentials", "refresh_token"]
    client_id: str
    client_secret: Secret = NO_SECRET
    scope: str = ""
    request: Literal["form", "json", "query"] = "form"
    client_auth: Literal["body", "basic"] = "body"
    id_name: str = "client_id"
    secret_name: str = "client_secret"  # noqa: S105 - the usual name of the parameter, not a secret
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """The endpoint's host and port, for people."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def ask(self, refresh_token: Secret) -> Draft:
        """Return the request for a token; ``refresh_token`` counts for that grant alone."""
        parameters = {"grant_type": str(self.grant)}
        headers = {"Accept": "application/json"}
        if self.client_auth == "basic":
            # RFC 6749 section 2.3.1: both are form-encoded before they are joined
            headers["Authorization"] = basic(f"{quote(self.client_id, '')}:{quote(self.client_secret.reveal(), '')}")
        else:
            parameters[self.id_name] = self.client_id
            if self.client_secret:
                parameters[self.secret_name] = self.client_secret.reveal()
        if self.grant == "refresh_token":
            parameters["refresh_token"] = refresh_token.reveal()
        if self.scope:
            parameters["scope"] = self.scope
        parameters.update(self.extra)
        if self.request == "query":
            return Draft("", "GET", self.url, headers, b"").with_query(parameters.items())
        if self.request == "json":
            headers["Content-Type"] = "application/json"
            return Draft("", "POST", self.url, headers, msgspec.json.encode(parameters))
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return Draft("", "POST", self.url, headers, urlencode(parameters).encode())


@dataclass(frozen=True, slots=True)
class Granted:
    """A token, how long it lives in seconds, and the refresh token to use from now on (none: the one used stays)."""

    token: Secret
    lives_s: float
    refresh_token: Secret = NO_SECRET


@dataclass(frozen=True, slots=True)
class NotGranted:
    """Why there is no token: ``reason`` in our words, ``detail`` the endpoint's, for people.

    ``refused`` tells that the endpoint said no, rather than nothing or something that is no answer; ``lacking`` that
    the relay could not even ask (``Failure``).
    """

    reason: str
    detail: str = ""
    refused: bool = False
    lacking: bool = False


class TokenReading:
    """Reads a token endpoint's answer. The paths are JMESPath into its JSON; ``lives_s`` counts where it says nothing.

    Raises ``ValueError`` for a path that does not compile.
    """

    def __init__(self, *, access: str, expires_in: str, refresh: str, lives_s: float) -> None:
        self._access, self._expires_in, self._refresh = map(JsonPath, (access, expires_in, refresh))
        self._path = access
        self._lives_s = lives_s

    def read(self, answer: Answer | Failure) -> Granted | NotGranted:
        """Return what ``answer`` grants; raises nothing, whatever it holds."""
        if isinstance(answer, Failure):
            return NotGranted(failure_reason(answer), printable(answer.detail), lacking=answer.kind == "lacking")
        reading = Reading(answer)
        try:
            token, expires_in, refresh = map(reading.find, (self._access, self._expires_in, self._refresh))
        except Unfit as error:
            return NotGranted(str(error))
        if 200 <= answer.status < 300 and isinstance(token, str) and _usable(token):
            return Granted(
                token=Secret(token),
                lives_s=_lifetime(expires_in, self._lives_s),
                refresh_token=Secret(refresh) if isinstance(refresh, str) and _usable(refresh) else NO_SECRET,
            )
        why, detail = _complaint(reading.document)
        if 200 <= answer.status < 300:
            reason = why or f"no text at {self._path!r}"
        else:
            reason = f"{answer.status} {why}".rstrip()
        return NotGranted(
            reason,
            detail,
            refused=bool(why) or answer.status in (400, 401, 403),
        )


def _usable(token: str) -> bool:
    """A token has to stand in a header; a line break in it would be another header."""
    return 0 < len(token) <= _MAX_TOKEN_CHARS and token.isascii() and token.isprintable()


def _lifetime(value: Any, otherwise_s: float) -> float:
    """Return ``expires_in``, which some endpoints write as text; what makes no sense counts as not said."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return otherwise_s
    return min(seconds, _LONGEST_S) if seconds > 0 else otherwise_s


def _is_code(value: Any) -> bool:
    """Tell whether a value is a code: a number, or a short word; some endpoints write the number as text."""
    return type(value) is int or (isinstance(value, str) and _CODE.fullmatch(value) is not None)


def _complaint(document: Any) -> tuple[str, str]:
    """Return the error as a reason (a registered word, a number or a code) and what is said to people."""
    if not isinstance(document, dict):
        return "", ""
    error = document.get("error")
    why = error if isinstance(error, str) and error in _ERRORS else ""
    if not why:
        why = next((f"{name} {document[name]}" for name in _NUMBERED if _is_code(document.get(name))), "")
    said = next((document[name] for name in _WORDS if isinstance(document.get(name), str)), "")
    return why, printable(said)
