"""Reads the file of ``relay config test``: posts, and the expected result of each."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from relay.cli.support.trial import Tried
from relay.config.problems import ConfigInvalid, Problem, quoted
from relay.config.reading.yaml_source import KeyPath, YamlSource, read_source
from relay.core.model import UNROUTED
from relay.core.raw import JsonObject

_LIST = "cases"
_KEYS = ("name", "payload", "event", "key", "content_type", "platform", "expect")
_EXPECTED = ("to", "key", "refused")
_WORDS = {"dead_letter": [UNROUTED], "reject": []}


class Case(NamedTuple):
    """One post. ``headers`` are those of the client; ``platform`` is None if the routes decide."""

    line: int
    name: str
    payload: bytes
    headers: dict[str, str]
    platform: str | None
    expect: JsonObject


def read_cases(file: str) -> list[Case]:
    """Return the cases in ``file``: a list, or a mapping with the list under ``cases``. Raises ``ConfigInvalid``."""
    source = read_source(Path(file), name=file, listed=_LIST)
    problems = list(source.problems)
    found = source.data.get(_LIST)
    if not isinstance(found, list) or len(source.data) != 1:
        hint = "write `cases:` and below it - {payload: {...}, event: order.paid, expect: {to: [shop-a]}}"
        raise ConfigInvalid([*problems, Problem(file, 1, 1, "E004", "the file must hold a list of cases", hint)])
    cases = [_case(source, index, given, problems) for index, given in enumerate(found)]
    if problems:
        raise ConfigInvalid(problems)
    return cases


def _case(source: YamlSource, index: int, given: Any, problems: list[Problem]) -> Case:
    path: KeyPath = (_LIST, index)

    def wrong(code: str, where: KeyPath, message: str, hint: str = "") -> None:
        mark = source.marks[where]
        problems.append(Problem(source.file, mark.key_line, mark.key_col, code, message, hint))

    if not isinstance(given, dict):
        wrong("E013", path, f"a case must be a mapping, not {quoted(given)}")
        given = {}
    _check_keys(given, _KEYS, path, wrong)
    expect = given.get("expect")
    if not isinstance(expect, dict) or not expect:
        wrong("E011", path, "the case expects nothing", "add expect: {to: [shop-a]}")
        expect = {}
    _check_keys(expect, _EXPECTED, (*path, "expect"), wrong)
    to = expect.get("to")
    if isinstance(to, str):
        expect = {**expect, "to": _WORDS.get(to, [to])}
    elif "to" in expect and not (isinstance(to, list) and all(isinstance(name, str) for name in to)):
        wrong("E013", (*path, "expect", "to"), "`to` must be a list of platforms", "or dead_letter, or reject")
    for name in ("name", "event", "content_type", "platform"):
        if name in given and not isinstance(given[name], str):
            wrong("E013", (*path, name), f"`{name}` must be text, not {quoted(given[name])}")
    headers = {"Relay-Event": given.get("event"), "Relay-Key": given.get("key")}
    headers["Content-Type"] = given.get("content_type", "application/json")
    return Case(
        line=source.marks[path].line,
        name=str(given.get("name") or _name(given)),
        payload=_payload(given.get("payload", {})),
        headers={name: str(value) for name, value in headers.items() if value is not None},
        platform=given.get("platform"),
        expect=expect,
    )


def _check_keys(given: JsonObject, known: tuple[str, ...], path: KeyPath, wrong: Any) -> None:
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"keys are {', '.join(known)}"
            wrong("E010", (*path, key), f"unknown key {quoted(key)}", hint)


def _payload(given: Any) -> bytes:
    """Return the body: a text as it is, any other value as JSON."""
    if isinstance(given, str):
        return given.encode()
    return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()


def _name(given: JsonObject) -> str:
    shown = _payload(given.get("payload", {})).decode()
    shown = shown if len(shown) <= 50 else f"{shown[:47]}..."
    return " ".join(part for part in (given.get("event"), shown) if isinstance(part, str) and part)


def failures(case: Case, tried: Tried) -> list[str]:
    """Return how the result of a case differs from the expected one; empty if it does not."""
    found: list[str] = []
    expect = case.expect
    refused = expect.get("refused")
    if tried.code is not None and refused is None and not (tried.code == "no_route" and "to" in expect):
        return [f"refused with {tried.code}: {tried.detail}"]
    if refused is not None and tried.code != refused:
        found.append(f"expected to be refused with {refused}, got {tried.code or f'to: {_names(tried.to)}'}")
    if "to" in expect and sorted(expect["to"]) != sorted(tried.to):
        by = f" by {tried.route}" if tried.route is not None else ""
        found.append(f"expected to: {_names(expect['to'])}, got {_names(tried.to)}{by}")
    if "key" in expect:
        wanted = expect["key"]
        for row in tried.rows:
            own = wanted.get(row.platform, row.key) if isinstance(wanted, dict) else wanted
            if (None if own is None else str(own)) != row.key:
                found.append(f"expected key {own!s} for {row.platform}, got {row.key or 'none'}")
    return found


def _names(names: Any) -> str:
    return f"[{', '.join(names)}]"
