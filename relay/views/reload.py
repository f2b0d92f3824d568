"""A reload of the configuration, as operators are told of it."""

from typing import Annotated

from msgspec import Struct

from relay.views.moments import Instant, told


class RefusedReloadView(Struct, frozen=True, kw_only=True):
    """The last reload, where it was refused: the configuration before it is still in force."""

    at: Annotated[Instant, told("when it was refused")]
    problems: Annotated[int, told("how many problems the file has")]
    todo: Annotated[str, told("the command that names them")]
