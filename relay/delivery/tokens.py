"""One credential's token: fetched once for everyone who waits for it, early, and again when it was refused.

Platforms that hand out one token per app punish anything else: with WeChat every fetch invalidates the token before
it, so two workers that fetch at the same time log each other out for ever. All users of a credential share one source.
"""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from relay.core.clock import Clock
from relay.core.errors import RelayError
from relay.core.secret import NO_SECRET, Secret
from relay.delivery.sender import Request, Sender
from relay.delivery.tokenstore import KeptToken, TokensNotKept, TokenStore
from relay.privacy.redaction import Redactor
from relay.telemetry.events import Events
from relay.wire.oauth import Granted, NotGranted, TokenQuestion, TokenReading

# A token may end while the request that carries it is on its way: it counts as over a little earlier.
_SPARE_S: Final = 10.0
_SPARE_PART: Final = 0.1  # of a short life
_EARLY_PART: Final = 0.25  # with a life shorter than four times `early`, fetching early must not mean fetching always
_AGAIN_FIRST_S: Final = 1.0  # after a failed fetch; doubled with each, so that many platforms do not storm an endpoint
_AGAIN_MOST_S: Final = 60.0


class NoToken(RelayError):
    """There is no token to send. ``reason`` is in our words, ``detail`` the endpoint's for people."""

    def __init__(self, why: NotGranted) -> None:
        super().__init__(f"token: {why.reason}")
        self.reason = str(self)
        self.detail = why.detail
        self.lacking = why.lacking  # the endpoint could not even be asked


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """How one credential's tokens are got; ``fingerprint`` changes with the settings that tokens belong to."""

    question: TokenQuestion
    reading: TokenReading
    early_s: float
    timeout_s: float
    fingerprint: str
    refresh_token: Secret = NO_SECRET
    secrets: frozenset[str] = field(default=frozenset(), repr=False)  # what the endpoint is told, in the forms sent


class TokenSource:
    """The only owner of a credential's token. Times are on the relay clock."""

    def __init__(
        self,
        *,
        name: str,
        terms: TokenTerms,
        sender: Sender,
        store: TokenStore,
        clock: Clock,
        events: Events,
    ) -> None:
        self.name = name
        self.terms = terms
        self._sender = sender
        self._store = store
        self._clock = clock
        self._events = events
        self._flight: asyncio.Task[None] | None = None
        self._failures = 0
        self._again_at = 0.0
        self._failed = NotGranted("not fetched yet")
        self._token = NO_SECRET
        self._fetched_at = self._lives_s = 0.0
        self._refresh_token = terms.refresh_token
        self.redactor = Redactor(terms.secrets)
        kept = store.load(name)
        if kept is not None and kept.terms == terms.fingerprint:
            self._token, self._fetched_at, self._lives_s = Secret(kept.token), kept.fetched_at, kept.lives_s
            self._refresh_token = Secret(kept.refresh_token)
            self.redactor.learn(kept.token)
            self.redactor.learn(kept.refresh_token)

    @property
    def current(self) -> Secret:
        """The token in use; empty while there is none."""
        return self._token

    async def token(self) -> Secret:
        """Return a token that is good for a while, fetching one where there is none. Raises ``NoToken``.

        Near its end the token is still given out while the next one is being fetched: nobody waits for that.
        """
        now = self._clock.now()
        left_s = self._fetched_at + self._lives_s - now if self._token else 0.0
        if left_s <= min(_SPARE_S, self._lives_s * _SPARE_PART):
            await self._fetched()
            if not self._is_good(self._clock.now()):
                raise NoToken(self._failed)
        elif left_s <= min(self.terms.early_s, self._lives_s * _EARLY_PART):
            self._fly()
        return self._token

    async def renew(self, refused: Secret) -> bool:
        """Replace the token ``refused`` by a new one; return whether there is another now."""
        if self._token == refused:
            await self._fetched()
        return bool(self._token) and self._token != refused

    def close(self) -> None:
        """Give up a fetch under way."""
        if self._flight is not None:
            self._flight.cancel()

    def _is_good(self, now: float) -> bool:
        return bool(self._token) and self._fetched_at + self._lives_s > now

    async def _fetched(self) -> None:
        """Wait for the fetch under way, or for a new one; a waiter that is cancelled does not end it for the others."""
        flight = self._fly()
        if flight is not None:
            await asyncio.shield(flight)

    def _fly(self) -> "asyncio.Task[None] | None":
        if self._flight is None and self._clock.now() >= self._again_at:
            self._flight = asyncio.create_task(self._fetch(), name=f"token {self.name}")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, flight: "asyncio.Task[None]") -> None:
        self._flight = None
        if not flight.cancelled() and (error := flight.exception()) is not None:
            self._fail(NotGranted(f"relay error: {type(error).__name__}"))  # a bug; the waiters raise it too

    async def _fetch(self) -> None:
        began_at = self._clock.now()
        draft = self.terms.question.ask(self._refresh_token)
        request = Request(
            url=draft.url, method=draft.method, headers=draft.headers, body=draft.body, timeout_s=self.terms.timeout_s
        )
        answer = await self._sender.send(request)
        outcome = self.terms.reading.read(answer)
        if isinstance(outcome, NotGranted):
            clean = self.redactor.text
            reason = f"{clean(outcome.reason)} from {self.terms.question.host}"
            self._fail(replace(outcome, reason=reason, detail=clean(outcome.detail)))
            return
        self._failures, self._again_at = 0, 0.0
        self.redactor.learn(outcome.token.reveal())
        if outcome.refresh_token:
            self._refresh_token = outcome.refresh_token
            self.redactor.learn(outcome.refresh_token.reveal())
        await self._keep(outcome, began_at)
        # only now: whoever uses the token may rely on the refresh token that came with it being on disk
        self._token, self._fetched_at, self._lives_s = outcome.token, began_at, outcome.lives_s
        self._events.token_fetched(credential=self.name, seconds=self._clock.now() - began_at, lives_s=outcome.lives_s)

    async def _keep(self, granted: Granted, began_at: float) -> None:
        kept = KeptToken(
            terms=self.terms.fingerprint,
            token=granted.token.reveal(),
            fetched_at=began_at,
            lives_s=granted.lives_s,
            refresh_token=self._refresh_token.reveal(),
        )
        try:
            await asyncio.to_thread(self._store.save, self.name, kept)
        except TokensNotKept as error:  # the token itself is good: delivery goes on, a person must know
            self._events.token_not_kept(credential=self.name, error=error)

    def _fail(self, failed: NotGranted) -> None:
        self._failed = failed
        self._failures += not failed.lacking
        wait_s = min(_AGAIN_MOST_S, _AGAIN_FIRST_S * 2.0 ** min(max(0, self._failures - 1), 10))
        self._again_at = self._clock.now() + wait_s
        self._events.token_failed(credential=self.name, reason=failed.reason, again_s=wait_s)
