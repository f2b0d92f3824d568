"""Puts a credential into a request: a header or a query parameter."""

import base64
from collections.abc import Callable
from typing import Final, Literal

from relay.core.secret import Secret
from relay.wire.signing.draft import Draft

Placing = Callable[[Draft, Secret], Draft]
"""Returns the draft with the secret in its place."""

AUTHORIZATION: Final = "Authorization"


def placing(send: Literal["header", "query"], name: str) -> Placing:
    """Return how a token is sent: as ``Authorization: Bearer``, alone in another header, or as a query parameter."""
    if send == "query":
        return lambda draft, secret: draft.with_query([(name, secret.reveal())])
    if name.lower() == AUTHORIZATION.lower():
        return lambda draft, secret: draft.with_headers([(name, f"Bearer {secret.reveal()}")])  # RFC 6750 section 2.1
    return lambda draft, secret: draft.with_headers([(name, secret.reveal())])


def place_basic(draft: Draft, credentials: Secret) -> Draft:
    """Send ``user:password`` as RFC 7617 has it, in UTF-8."""
    return draft.with_headers([(AUTHORIZATION, basic(credentials.reveal()))])


def basic(credentials: str) -> str:
    """Return the header value for ``user:password``."""
    return "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
