"""Who asks, and what the role grants."""

from typing import Annotated

from msgspec import Struct

from relay.views.moments import told


class WhoView(Struct, frozen=True, kw_only=True):
    """``GET /v1/session``: the caller as the relay sees it."""

    name: Annotated[str, told("of the user; local: there are no users, and this machine asks")]
    role: Annotated[str, told("viewer, operator, privacy, admin; local: no users")]
    may: Annotated[list[str], told("what is granted: view, operate, reveal")]
    login: Annotated[bool, told("there are users, so a session can be ended")]
