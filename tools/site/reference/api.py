"""Every route of both listeners, from the document that ``GET /openapi.json`` answers."""

import json
import re
from importlib.resources import files
from typing import Any
from unittest.mock import MagicMock

from relay.admin.http.api import AdminApi
from relay.ingest.described import ROUTES
from tools.site.reference.words import Words, code, prose, table

_CODES = re.compile(r"`(\w+)`: .*?(?=\. `|$)")
"""A problem as the document tells it: its code and its title."""


def page(words: Words) -> str:
    """Return the page: a section for each route, those of order centers first."""
    # The table of routes is the same whatever they serve.
    document = AdminApi(MagicMock(ingest=ROUTES)).document
    parts: list[str] = []
    for tag, title in (
        ("ingest", words["## For order centers\n\n", "## 给订单中心\n\n"]),
        ("admin", words["## For operators\n\n", "## 给运维\n\n"]),
    ):
        parts.append(title)
        for path, methods in document["paths"].items():
            parts += [_route(method, path, told, words) for method, told in methods.items() if told["tags"][0] == tag]
    return "".join(parts)


def _route(method: str, path: str, told: dict[str, Any], words: Words) -> str:
    permission = words["; permission ", "；权限 "] + code(told["x-permission"]) if "x-permission" in told else ""
    rows = [
        (code(each["name"]), words.of(f"in {each['in']}"), prose(words.of(each.get("description", ""))))
        for each in told.get("parameters", ())
    ]
    listed = table(words["parameter where meaning", "参数 位置 意思"].split(), rows) if rows else ""
    answers = [(status, prose(_answer(answer["description"], words))) for status, answer in told["responses"].items()]
    heads = words["answer meaning", "回答 意思"].split()
    summary = prose(words.of(told["summary"])) + permission
    return f"### {method.upper()} {path}\n\n{summary}\n\n{listed}{table(heads, answers)}"


def _answer(told: str, words: Words) -> str:
    """Return what an answer means; the titles of problems in Chinese are those that the relay answers with."""
    if words.language == "en" or not _CODES.match(told):
        return words.of(told)
    titles = json.loads((files("relay.web") / f"titles.{words.language}.json").read_text(encoding="utf-8"))
    return "；".join(f"`{each}`：{titles[each]}" for each in _CODES.findall(told))
