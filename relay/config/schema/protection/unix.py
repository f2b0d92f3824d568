"""The schema of ``ingest.unix``: who may connect to a socket file."""

import grp
import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from relay.config.problems import BadValue, quoted
from relay.config.schema.values import Section, reading, setting

_OWNER = 0o600  # the relay itself must be able to serve it
_MOST = 0o777


def _mode(value: Any) -> int:
    """Return a file mode. ``0660`` is octal here as everywhere, although YAML 1.2 reads it as the number 660.

    ``0o660``, which YAML reads as 432, means the same: no other mode has these digits and lets the owner in.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    found = int(text, 8) if re.fullmatch(r"0?o?[0-7]{3}", text) else -1
    if found & _OWNER != _OWNER and isinstance(value, int):
        found = value
    if not 0 <= found <= _MOST or found & _OWNER != _OWNER:
        raise BadValue("E031", f"{quoted(str(value))} is no mode of a socket that the relay can serve", "write 0660")
    return found


def _group(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue("E013", "a group must be a name", "write the name of a group of this machine")
    try:
        grp.getgrnam(value)
    except KeyError:
        hint = "create it with groupadd, or name another"
        raise BadValue("E031", f"there is no group {quoted(value)} on this machine", hint) from None
    return value


SocketMode = Annotated[
    int,
    PlainValidator(reading(_mode)),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^0?o?[0-7]{3}$"}]}),
]
SocketGroup = Annotated[str, PlainValidator(reading(_group)), WithJsonSchema({"type": "string"})]


class UnixSocket(Section):
    """The file of a unix socket: its mode and group say who may connect."""

    mode: SocketMode = setting("0660", "Mode of the file.")
    group: SocketGroup | None = setting(None, "Its group. Not set: that of the relay's process.")
