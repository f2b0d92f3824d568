"""Every key of the configuration, from the JSON Schema that ``relay config schema`` prints."""

import json
from collections.abc import Iterator
from typing import Any

from relay.config.report.json_schema import json_schema
from tools.site.reference.words import Words, code, prose, table

Node = dict[str, Any]
_DEFINITION = "#/definitions/"


def page(words: Words) -> str:
    """Return the page: the file's own keys first, then each mapping in the order in which it is first named."""
    schema = json_schema()
    definitions: dict[str, Node] = schema["definitions"]
    lines = [
        words["## The file\n\n", "## 文件\n\n"],
        _keys(schema, words),
    ]
    for name in _in_order(schema, definitions):
        if name != "PlatformDefaults":
            section = definitions[name]
            about = prose(words.of(section.get("description", "")))
            lines.append(f"## {name}\n\n{about}\n\n{_keys(section, words)}")
    return "".join(lines)


def _in_order(schema: Node, definitions: dict[str, Node]) -> list[str]:
    found: dict[str, None] = {}
    waiting = [schema]
    while waiting:
        for name in _named(waiting.pop(0)):
            if name not in found:
                found[name] = None
                waiting.append(definitions[name])
    return list(found)


def _named(node: Any) -> Iterator[str]:
    """Yield the definitions that a piece of the schema names."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix(_DEFINITION)
        for value in node.values():
            yield from _named(value)
    elif isinstance(node, list):
        for value in node:
            yield from _named(value)


def _keys(section: Node, words: Words) -> str:
    required = section.get("required", ())
    rows = []
    for key, node in section.get("properties", {}).items():
        default = words["required", "必填"] if key in required else _default(node)
        rows.append((code(key), _kind(node, words), default, prose(words.of(node.get("description", "")))))
    if not rows:
        return ""
    return table(words["key value default meaning", "键 值 默认 意思"].split(), rows)


def _default(node: Node) -> str:
    if node.get("default") in (None, {}, [], ""):
        return ""
    return code(
        node["default"] if isinstance(node["default"], str) else json.dumps(node["default"], ensure_ascii=False)
    )


def _kind(node: Node, words: Words) -> str:
    """Return what a value looks like: its mapping, its choices, its type."""
    if "$ref" in node:
        name = node["$ref"].removeprefix(_DEFINITION)
        name = "PlatformSection" if name == "PlatformDefaults" else name
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in node:
            return words[" or ", " 或 "].join(dict.fromkeys(_kind(each, words) for each in node[several]))
    if "const" in node:
        return code(json.dumps(node["const"]))
    if "enum" in node:
        return ", ".join(code(str(each)) for each in node["enum"])
    if node.get("type") == "array":
        return words["list of ", "列表："] + _kind(node.get("items", {}), words)
    if node.get("type") == "object":
        inner = node.get("additionalProperties")
        return words["by name: ", "按名字："] + (
            _kind(inner, words) if isinstance(inner, dict) else words["any", "任意"]
        )
    kinds = {
        "string": ("text", "文本"),
        "integer": ("number", "整数"),
        "number": ("number", "数"),
        "boolean": ("true, false",) * 2,
    }
    return words[kinds.get(str(node.get("type")), ("any", "任意"))]
