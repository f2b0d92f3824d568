"""The one name for JSON whose members the relay does not know."""

from collections.abc import Mapping
from typing import Any

JsonObject = dict[str, Any]
"""A JSON object of any shape, such as a payload, a platform's answer or a configuration nested as its file.

Only where the shape is really somebody else's: what the relay itself makes has a type of its own.
"""

Kept = JsonObject
"""What one part of the relay keeps over a restart, such as a platform's gate: ``{"paused": false, "level": 2}``.

Only the part that wrote it reads it; everybody else passes it on. A version may find keys of another one, or miss some.
"""

Record = Mapping[str, Any]
"""An audit record on its way to the store: who, from where, what, why, and details that depend on the deed."""
