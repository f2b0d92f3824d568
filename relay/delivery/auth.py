"""What a platform's requests are authorised with: a fixed secret, or the token of a credential that may be shared.

``Credentials`` owns the token sources of the whole relay and hands each pipeline its ``Authoriser``. When a platform
refuses a token:

1. the token is renewed once, and the same batch goes again;
2. refused again, the platform backs off, as it would without a token;
3. the first attempt after that may renew once more.

So a revoked token heals by itself, and a platform that refuses everything causes no storm on the token endpoint.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from relay.config.reading.known_secrets import credential_secrets
from relay.config.schema.auth import AnyCredential, BasicAuth, BearerAuth, OAuth2Auth
from relay.core.clock import Clock
from relay.core.secret import NO_SECRET, Secret
from relay.delivery.sender import Sender
from relay.delivery.terms import Terms
from relay.delivery.tokens import NoToken, TokenSource, TokenTerms
from relay.delivery.tokenstore import TokenStore
from relay.privacy.redaction import Redactor
from relay.telemetry.events import Events
from relay.wire.oauth import TokenQuestion, TokenReading
from relay.wire.signing.authorise import AUTHORIZATION, Placing, place_basic, placing
from relay.wire.signing.draft import Draft

__all__ = ["Authoriser", "Credentials", "NoToken"]


class Authoriser(Protocol):
    """Authorises one platform's requests."""

    async def authorise(self, draft: Draft) -> Draft:
        """Return ``draft`` with the credential in it. Raises ``NoToken`` when there is none to be had."""
        ...

    def accepted(self) -> None:
        """The platform took a request: its credential is good."""
        ...

    def redactor(self, fixed: Iterable[str]) -> Redactor:
        """Return what takes ``fixed`` secrets, and the tokens in use, out of answers."""
        ...

    async def renewed(self, refused: Secret, *, sent_at: float) -> bool:
        """The platform refused ``refused``, sent at ``sent_at`` (relay clock); return whether there is another."""
        ...


class FixedAuth:
    """Puts the same secret into every request; refused, there is nothing to renew."""

    def __init__(self, place: Placing | None, secret: Secret) -> None:
        self._place = place
        self._secret = secret

    async def authorise(self, draft: Draft) -> Draft:
        """Return ``draft`` with the secret, if there is any."""
        return draft if self._place is None else _placed(draft, self._place, self._secret)

    def accepted(self) -> None:
        """Nothing to remember."""

    def redactor(self, fixed: Iterable[str]) -> Redactor:
        """Return what takes ``fixed`` secrets out of answers; this one is among them."""
        return Redactor(fixed)

    async def renewed(self, refused: Secret, *, sent_at: float) -> bool:
        """Return False: it would be the same again."""
        return False


class TokenAuth:
    """Puts a fetched token into every request and renews it when this platform refuses it."""

    def __init__(self, place: Placing, source: TokenSource, clock: Clock) -> None:
        self._place = place
        self._source = source
        self._clock = clock
        self._renewed_at = 0.0  # the first renewal since the platform last accepted, or backed off
        self._gave_up_at = 0.0

    async def authorise(self, draft: Draft) -> Draft:
        """Return ``draft`` with a token that is good for a while. Raises ``NoToken``."""
        return _placed(draft, self._place, await self._source.token())

    def accepted(self) -> None:
        """The token works here."""
        self._renewed_at = 0.0

    def redactor(self, fixed: Iterable[str]) -> Redactor:
        """Return what takes ``fixed`` secrets, and the source's tokens as they change, out of answers."""
        return Redactor(fixed, of=self._source.redactor)

    async def renewed(self, refused: Secret, *, sent_at: float) -> bool:
        """Return whether there is another token to try, fetching one if this is the first refusal in a row."""
        if self._renewed_at and sent_at >= self._renewed_at:
            self._renewed_at, self._gave_up_at = 0.0, self._clock.now()
            return False  # refused with the new token too
        if sent_at <= self._gave_up_at:
            return False  # was under way when the second one was refused
        # Another request or platform may have renewed it meanwhile: that counts for this one as well.
        renewed = refused != self._source.current or await self._source.renew(refused)
        if renewed and not self._renewed_at:
            self._renewed_at = self._clock.now()
        return renewed


class Credentials:
    """All token sources by the name of their credential. ``sender`` reaches token endpoints, and is closed with it."""

    def __init__(self, *, sender: Sender, store: TokenStore, clock: Clock, events: Events) -> None:
        self._sender = sender
        self._store = store
        self._clock = clock
        self._events = events
        self._sources: dict[str, TokenSource] = {}

    def authoriser(self, terms: Terms) -> Authoriser:
        """Return what authorises the platform's requests; platforms that name one credential share its token."""
        auth = terms.auth
        if auth is None:
            return FixedAuth(None, NO_SECRET)
        if isinstance(auth, BearerAuth):
            return FixedAuth(placing("header", AUTHORIZATION), Secret(auth.token))
        if isinstance(auth, BasicAuth):
            return FixedAuth(place_basic, Secret(f"{auth.user}:{auth.password}"))
        if isinstance(auth, OAuth2Auth):
            return TokenAuth(placing(auth.send, auth.sent_as), self._source(terms.credential, auth), self._clock)
        return FixedAuth(placing("query", auth.name), Secret(auth.token))

    async def close(self) -> None:
        """Give up fetches under way and close the sender."""
        for source in self._sources.values():
            source.close()
        await self._sender.close()

    def _source(self, name: str, auth: OAuth2Auth) -> TokenSource:
        terms = token_terms(auth)
        source = self._sources.get(name)
        if source is not None and source.terms.fingerprint == terms.fingerprint:
            source.terms = terms
            return source
        if source is not None:
            source.close()  # a reload changed it: its users were stopped before
        made = TokenSource(
            name=name, terms=terms, sender=self._sender, store=self._store, clock=self._clock, events=self._events
        )
        self._sources[name] = made
        return made


def token_terms(auth: OAuth2Auth) -> TokenTerms:
    """Return the terms that a credential of the configuration states."""
    question = TokenQuestion(
        url=auth.token_url,
        grant=auth.grant,
        client_id=auth.client_id,
        client_secret=Secret(auth.client_secret or ""),
        scope=auth.scope or "",
        request=auth.request,
        client_auth=auth.client_auth,
        id_name=auth.id_name,
        secret_name=auth.secret_name,
        extra=auth.params,
    )
    reading = TokenReading(
        access=auth.answer.access,
        expires_in=auth.answer.expires_in,
        refresh=auth.answer.refresh,
        lives_s=auth.lifetime,
    )
    return TokenTerms(
        question=question,
        reading=reading,
        early_s=auth.early,
        timeout_s=auth.timeout,
        fingerprint=_fingerprint(auth),
        refresh_token=Secret(auth.refresh_token or ""),
        secrets=credential_secrets(auth.model_dump()),
    )


_TOKENS_DEPEND_ON: Final = (
    *("grant", "token_url", "client_id", "client_secret", "refresh_token", "scope", "request", "client_auth"),
    *("id_name", "secret_name", "params", "answer"),
)


def _fingerprint(auth: AnyCredential) -> str:
    """Return a digest of what a token belongs to: another refresh token in the file means to start from that one."""
    stated = auth.model_dump(include=set(_TOKENS_DEPEND_ON))
    return hashlib.sha256(msgspec.json.encode(stated, order="sorted")).hexdigest()


def _placed(draft: Draft, place: Placing, secret: Secret) -> Draft:
    return replace(place(draft, secret), token=secret)
