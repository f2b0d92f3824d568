"""The JSON Schema of the file, for editors (yaml-language-server) and other programs."""

import json
from typing import Any

from pydantic.json_schema import JsonSchemaValue

from relay.config.schema.file import Config


def json_schema() -> JsonSchemaValue:
    """Return the schema: every key with its description, default and form."""
    schema: JsonSchemaValue = _tidy(Config.model_json_schema(by_alias=True))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": "relay configuration"}


def json_schema_text() -> str:
    """Return the schema as the committed file ``relay.schema.json`` holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(node: Any, *, names: bool = False) -> Any:
    """Drop what only repeats a key's name, and ``null``: a key that is not set is left out.

    ``names`` tells that the keys of ``node`` are the file's own keys, of which ``title`` may be one.
    """
    if isinstance(node, list):
        return [_tidy(child) for child in node]
    if not isinstance(node, dict):
        return node
    tidied = {
        ("definitions" if key == "$defs" else key): _tidy(child, names=key in ("properties", "$defs"))
        for key, child in node.items()
        if names or not (key == "title" or (key == "default" and child is None))
    }
    if isinstance(tidied.get("$ref"), str) and not names:
        tidied["$ref"] = tidied["$ref"].replace("#/$defs/", "#/definitions/")
    choices = tidied.get("anyOf")
    if isinstance(choices, list) and not names:
        kept = [choice for choice in choices if choice != {"type": "null"}]
        if len(kept) == 1:
            del tidied["anyOf"]
            tidied = {**kept[0], **tidied}
        else:
            tidied["anyOf"] = kept
    return tidied
