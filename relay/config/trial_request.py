"""Builds one trial request for each platform, as the configuration says, and reports what cannot work. It sends none.

Three mistakes are found this way. Two settings set the same header or parameter, so only one of their values would
arrive. A signature needs a form, but the body is none. A header holds a character that HTTP cannot carry.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from relay.config.problems import BadValue, quoted
from relay.config.reading.yaml_source import KeyPath
from relay.config.report.translate import PlacedProblem, dotted
from relay.config.schema.auth import AnyCredential, BasicAuth, BearerAuth, OAuth2Auth, QueryAuth, UseAuth
from relay.config.schema.file import Config
from relay.config.schema.platform import PlatformSection
from relay.core.secret import Secret
from relay.wire.signing.authorise import AUTHORIZATION, Placing, place_basic, placing
from relay.wire.signing.draft import Draft, fields_of, merged_headers

_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON: Final = {"Content-Type": "application/json"}
_FIELD: Final = re.compile(r"\{[^{}]*\}")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN: Final = Secret("token")
_RELAYS: Final = {"Idempotency-Key": "id", "Relay-Attempt": "1"}
_ONE_OF_THEM: Final = "remove one of them"
_Key = tuple[str, str]  # header, parameter or field, and its name


def request_problems(config: Config) -> Iterator[PlacedProblem]:
    """Yield what would go wrong with every request of a platform, or with its read-backs and its token endpoint."""
    for name, platform in config.platforms.items():
        path: KeyPath = ("platforms", name)
        credential = _credential(config, platform)
        body, kind = (b"a=1", _FORM) if platform.envelope.kind == "form" else (b'{"a":\n1}', _JSON)
        request = _Request(path, platform.url, platform.headers, body, kind)
        found = list(request.problems(platform, credential))
        yield from found
        if platform.confirm is not None and not found:
            headers = merged_headers(platform.headers, platform.confirm.headers)
            posts = platform.confirm.body is not None
            body, kind = (b'{"a":\n1}', _JSON) if posts else (b"", {})
            request = _Request((*path, "confirm"), platform.confirm.url, headers, body, kind)
            yield from request.problems(platform, credential)
    own = [(("platforms", name, "auth"), platform.auth) for name, platform in config.platforms.items()]
    for where, auth in [*own, *((("credentials", name), auth) for name, auth in config.credentials.items())]:
        if isinstance(auth, OAuth2Auth) and auth.client_auth == "basic" and "@" in urlsplit(auth.token_url).netloc:
            what = f"{dotted(where)}: token_url has a login in it, and client_auth: basic is another"
            yield _problem((*where, "token_url"), what, "remove one of them", (*where, "client_auth"))


def _credential(config: Config, platform: PlatformSection) -> AnyCredential | None:
    auth = platform.auth
    return config.credentials.get(auth.use) if isinstance(auth, UseAuth) else auth


@dataclass(frozen=True, slots=True)
class _Request:
    """One kind of request: where its settings stand, and what it consists of before it is authorised and signed."""

    path: KeyPath
    url: str
    headers: Mapping[str, str]
    body: bytes
    kind: Mapping[str, str]

    def problems(self, platform: PlatformSection, credential: AnyCredential | None) -> Iterator[PlacedProblem]:
        """Yield what goes wrong on the way to a request that can be sent."""
        parts = urlsplit(_FIELD.sub("x", self.url))
        login, _, host = parts.netloc.rpartition("@")
        url = urlunsplit(parts._replace(netloc=host))
        draft = Draft("id", "POST", url, merged_headers(_RELAYS, self.kind, self.headers), self.body)
        setters = {_of_header(name): "by the relay itself" for name in _RELAYS}
        setters |= {_of_header(name): "under headers" for name in self.headers}
        setters |= {("parameter", name): "under url" for name, _ in fields_of(draft.query)}
        if login:
            if _of_header(AUTHORIZATION) in setters:
                what = f"{dotted((*self.path, 'url'))} has a login in it, and headers an Authorization"
                yield _problem((*self.path, "url"), what, _ONE_OF_THEM, (*self.path, "headers"))
            setters[_of_header(AUTHORIZATION)] = "by the login in url"
        owner = self.path[:2]
        if credential is not None:
            before, draft = draft, _authorised(draft, credential)
            yield from self._overwritten(before, draft, setters, (*owner, "auth"))
        if platform.sign is not None:
            before = draft
            try:
                draft = platform.sign.signer.sign(draft, wall=1.0)
            except ValueError as error:
                what = f"{dotted((*owner, 'sign'))}: {error}; the body of {dotted(self.path)} is none"
                yield _problem((*owner, "sign"), what, "write to: query or to: header", (*owner, "envelope"), self.path)
                return
            yield from self._overwritten(before, draft, setters, (*owner, "sign"))
        for name, value in draft.headers.items():
            if not _NAME.fullmatch(name) or _UNSENDABLE.search(value):
                what = f"{dotted((*owner, 'sign'))}: the header {quoted(name)} that it makes cannot be sent"
                yield _problem((*owner, "sign"), what, "a header has a name without spaces and a value of one line")

    def _overwritten(
        self, before: Draft, after: Draft, setters: dict[_Key, str], path: KeyPath
    ) -> Iterator[PlacedProblem]:
        """Yield each header, parameter and field that the settings at ``path`` overwrite. Note them as its setter."""
        was = _named(before)
        for key, value in _named(after).items():
            if was.get(key) == value:
                continue
            kind, name = key
            shown = next((each for each in after.headers if each.lower() == name), name) if kind == "header" else name
            if key in setters:
                what = f"{dotted(path)}: the {kind} {shown} is also set {setters[key]}"
                yield _problem(path, what, _ONE_OF_THEM, (*self.path, "headers"), (*self.path, "url"))
            setters[key] = f"under {path[-1]}"


def _of_header(name: str) -> _Key:
    return "header", name.lower()


def _named(draft: Draft) -> dict[_Key, str]:
    found = {_of_header(name): value for name, value in draft.headers.items()}
    found |= {("parameter", name): value for name, value in fields_of(draft.query)}
    if draft.is_form:
        found |= {("field", name): value for name, value in fields_of(draft.body.decode())}
    return found


def _authorised(draft: Draft, credential: AnyCredential) -> Draft:
    place: Placing
    if isinstance(credential, BearerAuth):
        place = placing("header", AUTHORIZATION)
    elif isinstance(credential, BasicAuth):
        place = place_basic
    elif isinstance(credential, QueryAuth):
        place = placing("query", credential.name)
    else:
        place = placing(credential.send, credential.sent_as)
    return place(draft, _TOKEN)


def _problem(path: KeyPath, what: str, hint: str, *relies_on: KeyPath) -> PlacedProblem:
    return PlacedProblem(path, BadValue("E051", what, hint), False, (path, *relies_on))
