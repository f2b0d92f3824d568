"""Says in plain words why a text is no YAML, and where: often a line above the one where the parser noticed."""

import re

from yaml.error import MarkedYAMLError

from relay.config.problems import Problem
from relay.config.reading.wide_characters import wide_character

_KEY = r"(?P<before>\s*(?:- +)*)(?P<key>[A-Za-z_][\w.-]*)"
_NO_SPACE = re.compile(rf"{_KEY}:(?!//)[^\s:]")  # rate:100/min, but not https://...
_NO_COLON = re.compile(rf"{_KEY}\s*(?:#.*)?$")  # shop-a
_NO_COLON_BEFORE = re.compile(rf"{_KEY}\s+[^\s#:][^:]*$")  # rate 100/min
_WITH_VALUE = re.compile(rf"{_KEY}:\s+[^\s#|>&]")
_BARE = re.compile(r"\s*(?:#.*|---.*)?$")


def syntax_problem(error: MarkedYAMLError, file: str, lines: list[str]) -> Problem:
    """Return what a parser could not read as a problem of ``file``, whose text has these ``lines``."""
    mark = error.problem_mark or error.context_mark
    line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    begun = (error.context_mark or mark).line + 1 if mark else line
    wide = wide_character(lines, line, begun)
    if wide is not None:
        what = f"{wide.what} stands where YAML wants {wide.wanted}"
        return Problem(file, wide.line, wide.col, "E003", what, wide.hint)
    what, context = error.problem or "not well-formed", error.context or ""
    starts = "expected <block end>, but found '<block " in what
    lacks_colon = "mapping values are not allowed" in what or "could not find expected ':'" in what
    if (starts or lacks_colon) and (slip := _slip(file, lines, line, line if starts else begun)):
        return slip
    hint = ""
    if error.context_mark is not None and ("end of stream" in what or "stream end" in what):
        line, col = begun, error.context_mark.column + 1
        opened = "a quote" if "quoted" in context else "a bracket or brace"
        what, hint = f"{opened} opens here and is never closed", "close it where it ends"
    elif "'\\t'" in what:
        what, hint = "a tab stands where YAML wants spaces", "indent with spaces"
    elif "mapping values are not allowed" in what:
        what, hint = "a second ': ' in one line", "quote the value, or check the indentation"
    elif "cannot start any token" in what:
        hint = "put the value in quotes"
    elif "single document" in context:
        what, hint = "a second document starts here", "keep one document in the file"
    elif "undefined alias" in what:
        what = "a value starts with *, which names an anchor, and there is none of that name"  # not quoted: a secret?
        hint = "put the value in quotes if it is meant to start with *"
    elif "flow mapping" in context and "got ':'" in what and begun == line:
        what = "a second ': ' before a ',' or '}'"
        hint = "put a comma between two keys, and a value that holds ': ' in quotes"
    elif starts:
        what, hint = "its indentation fits no line above", "start it in the column of what it belongs with"
    elif what == "expected <block end>, but found '<scalar>'":
        what, hint = "more text after a value that has ended", "put quotes around all of it"
    elif what == "expected <block end>, but found '-'":
        what, hint = "an entry of a list among keys", "indent it below the key that it belongs to"
    elif context:
        what = f"{context}: {what}"
        if begun < line:
            hint = f"it begins in line {begun}: is it closed?"
    return Problem(file, line, col, "E003", what, hint)


def _slip(file: str, lines: list[str], line: int, begun: int) -> Problem | None:
    """Return the slip behind a colon that is one too many or missing; None where it is none of the usual ones.

    The parser notices it in ``line``, of something that began in ``begun``. What led there may stand in that line
    (``rate:100/min`` before ``key: x``), or in the last one before it that holds anything. No word of it is quoted: it
    may be a secret.
    """
    above = next((number for number in range(line - 1, 0, -1) if not _BARE.match(lines[number - 1])), None)
    for number in dict.fromkeys((begun, above)):
        if number is None or number > len(lines):
            continue
        text = lines[number - 1]
        if found := _NO_SPACE.match(text):
            what = "a key has no space after its colon"
            return Problem(file, number, found.end(), "E003", what, "write `key: value`")
        if number != line and (found := _NO_COLON.match(text) or _NO_COLON_BEFORE.match(text)):
            what = "a key has no colon after it"
            return Problem(file, number, found.end("key") + 1, "E003", what, "write `key: value`")
    if above is not None and line <= len(lines) and (found := _WITH_VALUE.match(lines[above - 1])):
        indent = len(lines[line - 1]) - len(lines[line - 1].lstrip())
        if indent > len(found["before"]):
            what = f"a key is indented deeper than the one in line {above}, which has a value"
            hint = "start both in the same column"
            return Problem(file, line, indent + 1, "E003", what, hint)
    return None
