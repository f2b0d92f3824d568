"""The one name for JSON whose members the relay does not know."""

from typing import Any

JsonObject = dict[str, Any]
"""A JSON object of any shape, such as a payload, a platform's answer or a configuration nested as its file.

Only where the shape is really somebody else's: what the relay itself makes has a type of its own.
"""
