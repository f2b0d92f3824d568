"""Reads a YAML file into plain data and remembers where every key and value stands.

Scalars mean what YAML 1.2's core schema says: only ``true`` and ``false`` are booleans, ``on``, ``no``, ``12:30`` and
dates stay text (PyYAML's own loaders follow YAML 1.1). Duplicate keys, tags of one's own, merge keys and anything that
unfolds without bound are errors with a position.
"""

import codecs
import re
from pathlib import Path
from typing import Any, NamedTuple

from yaml.composer import Composer
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.error import MarkedYAMLError, YAMLError
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    ScalarEvent,
)
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from relay.config.problems import ConfigInvalid, Problem, quoted
from relay.config.reading.syntax import syntax_problem
from relay.core.raw import JsonObject

MAX_FILE_BYTES = 4 * 2**20
MAX_DEPTH = 32  # the schema needs 8
_TAGGED = "a value starts with a tag (!), and tags are not read"  # not quoted: it may have been meant as a secret
_TAG_HINT = "remove it, or put the value in quotes if it is meant to start with !"
MAX_NODES = 100_000  # some thousand platforms; an alias bomb asks for billions

_TOO_MANY = f"more than {MAX_NODES} keys and values"
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_MOST_DIGITS = 18  # of a number: more than any setting means, and what every message can show

RawSettings = JsonObject
"""A mapping as YAML reads it, before anything is checked: ``{"url": "https://...", "batch": {"max_items": 5}}``."""

KeyPath = tuple[str | int, ...]
"""Where a value stands in the data: ``("platforms", "shop-a", "rate", 0)``."""


class Mark(NamedTuple):
    """The places of a key and of its value, counted from 1. A list item's key place is its value's."""

    key_line: int
    key_col: int
    line: int
    col: int
    quoted: bool  # the value's text starts one column after its mark
    is_mapping: bool
    file: str


class YamlSource(NamedTuple):
    """A file as read, perhaps with what it includes: its data, and a mark for every path in it."""

    file: str
    data: RawSettings
    marks: dict[KeyPath, Mark]
    problems: list[Problem]
    bad: set[KeyPath]  # values already complained about; what stands in the data for them means nothing


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's pure parser with the core schema's resolver, and bounds on nesting and on how many values there are.

    The C parser is ten times as fast, but its messages and positions differ from build to build.
    """

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.depth = 0
        self.nodes = 0

    def scan_to_next_token(self) -> None:
        """Skip white space between tokens: tabs too where they separate and do not indent (YAML 1.2 section 6.2)."""
        super().scan_to_next_token()
        while self.peek() == "\t" and self._separates():
            while self.peek() in " \t":
                self.forward()
            super().scan_to_next_token()

    def _separates(self) -> bool:
        """Tell whether the tab here stands where no indentation is: after a colon, in a list, in an empty line."""
        if self.flow_level or not self.allow_simple_key:
            return True
        ahead = 1
        while self.peek(ahead) in " \t":
            ahead += 1
        return self.peek(ahead) in "\0\r\n#"

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Compose one node, refusing to go deeper or to hold more than any sensible file: before it is made."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _TooMuch(event.start_mark, _TOO_MANY)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _TooMuch(event.start_mark, _TOO_DEEP)
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)


def _refuse_too_much(text: str) -> None:
    """Raise ``_TooMuch`` for a text with more values or levels than a file may have: the C parser counts in a blink.

    The bounds of ``_Loader`` are what holds; they would take seconds to come there. A text that the C parser does not
    read is left to it too, for its words and places.
    """
    nodes = depth = 0
    parser = CParser(text)
    try:
        while parser.check_event():
            event = parser.get_event()
            if isinstance(event, CollectionEndEvent):
                depth -= 1
            elif isinstance(event, AliasEvent | ScalarEvent | CollectionStartEvent):
                nodes += 1
                depth += isinstance(event, CollectionStartEvent)
                if nodes > MAX_NODES:
                    raise _TooMuch(event.start_mark, _TOO_MANY)
                if depth > MAX_DEPTH:
                    raise _TooMuch(event.start_mark, _TOO_DEEP)
    except YAMLError:
        return
    finally:
        parser.dispose()


class _TooMuch(Exception):
    """Nesting or expansion went past its bound."""

    def __init__(self, mark: Any, why: str) -> None:
        super().__init__(why)
        self.mark = mark


def read_source(
    path: Path, *, name: str | None = None, listed: str | None = None, may_be_empty: bool = False
) -> YamlSource:
    """Read and parse the file at ``path``; raise ``ConfigInvalid`` where nothing can be made of it.

    With ``listed``, a file that is a list is read as the value of the key of this name. With ``may_be_empty``, a file
    of comments alone is an empty mapping.
    """
    file = name or str(path)
    try:
        if path.is_dir():
            raise ConfigInvalid([Problem(file, 1, 1, "E001", "this is a directory", "name the YAML file in it")])
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        hint = "give its path, or set RELAY_CONFIG" if listed is None else "give its path"
        raise ConfigInvalid([Problem(file, 1, 1, "E001", "there is no such file", hint)]) from None
    except OSError as error:
        why = (error.strerror or "unknown error").lower()
        raise ConfigInvalid([Problem(file, 1, 1, "E001", f"the file cannot be read: {why}")]) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigInvalid([Problem(file, 1, 1, "E006", f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")])
    return parse_source(raw, file, listed=listed, may_be_empty=may_be_empty)


def parse_source(raw: bytes, file: str, *, listed: str | None = None, may_be_empty: bool = False) -> YamlSource:
    """Parse the bytes of a file called ``file`` as ``read_source`` does."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        line, col = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            what = "the file is UTF-16, not UTF-8"
        raise ConfigInvalid([Problem(file, line, col, "E002", what, "save the file as UTF-8")]) from None
    try:
        _refuse_too_much(text)
        root = _Loader(text).get_single_node()
        builder = _Builder(file)
        if root is None or (isinstance(root, ScalarNode) and not root.value):
            if may_be_empty:
                return YamlSource(file, {}, {}, [], set())
            hint = "start with `version: 1` and `platforms:`"
            what = "the file holds nothing but comments" if "#" in text else "the file is empty"
            raise ConfigInvalid([Problem(file, 1, 1, "E004", what, hint)])
        if listed is not None and isinstance(root, SequenceNode):
            data = {listed: builder.build(root, (listed,), 0)}
        else:
            data = builder.build(root, (), 0)
    except _TooMuch as error:
        line, col = error.mark.line + 1, error.mark.column + 1
        raise ConfigInvalid([Problem(file, line, col, "E006", str(error))]) from None
    except ReaderError as error:
        before = text[: error.position]
        line, col = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        what = f"the control character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise ConfigInvalid([Problem(file, line, col, "E003", what)]) from None
    except MarkedYAMLError as error:
        raise ConfigInvalid([syntax_problem(error, file, text.splitlines())]) from None
    if not isinstance(data, dict):
        hint = "start with `version: 1` and `platforms:`"
        raise ConfigInvalid([*builder.problems, Problem(file, 1, 1, "E004", "the file must hold a mapping", hint)])
    return YamlSource(file, data, builder.marks, builder.problems, builder.bad)


class _Builder:
    """Turns nodes into plain data, noting marks and every problem on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.marks: dict[KeyPath, Mark] = {}
        self.problems: list[Problem] = []
        self.bad: set[KeyPath] = set()
        self.nodes = 0

    def build(self, node: Node, path: KeyPath, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _TooMuch(node.start_mark, f"the aliases unfold into more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise _TooMuch(node.start_mark, "an alias stands inside what it refers to")
        if path not in self.marks:
            self._mark(path, node, node)
        if isinstance(node, MappingNode):
            self._check_tag(node, "map")
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            self._check_tag(node, "seq")
            return [self.build(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: KeyPath, depth: int) -> RawSettings:
        data: RawSettings = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key == "<<" and not key_node.style:
                self._problem(
                    key_node, "E007", "merge keys (<<) are not read", "put what platforms share under `defaults:`"
                )
                continue
            if not isinstance(key_node, ScalarNode) or not key_node.tag.endswith(":str"):
                shown = quoted(key) if isinstance(key_node, ScalarNode) else "a list or mapping"
                self._problem(key_node, "E007", f"the key {shown} is not text", "put it in quotes")
                continue
            if key in data:
                first = self.marks[(*path, key)]
                self._problem(
                    key_node, "E005", f"the key {quoted(key)} stands here twice", f"first in line {first.key_line}"
                )
                continue
            self._mark((*path, key), key_node, value_node)
            data[key] = self.build(value_node, (*path, key), depth + 1)
        return data

    def _scalar(self, node: Node, path: KeyPath) -> Any:
        text: str = node.value
        kind = node.tag.rpartition(":")[2] if node.tag.startswith("tag:yaml.org,2002:") else ""
        try:
            if kind == "str":
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() == "true"
            if kind == "int":
                if len(text) > _MOST_DIGITS:
                    raise ValueError("too many digits")
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            if kind == "float":
                return float(re.sub(r"(?i)\.(inf|nan)", r"\1", text))
        except ValueError:
            self.bad.add(path)
            self._problem(node, "E013", "the number is not one the relay can read")
            return None
        self.bad.add(path)
        self._problem(node, "E007", _TAGGED, _TAG_HINT)
        return None

    def _check_tag(self, node: Node, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            self._problem(node, "E007", _TAGGED, _TAG_HINT)

    def _mark(self, path: KeyPath, key: Node, value: Node) -> None:
        is_quoted = isinstance(value, ScalarNode) and value.style in ("'", '"')
        start, key_start = value.start_mark, key.start_mark
        self.marks[path] = Mark(
            key_start.line + 1,
            key_start.column + 1,
            start.line + 1,
            start.column + 1,
            is_quoted,
            isinstance(value, MappingNode),
            self.file,
        )

    def _problem(self, node: Node, code: str, message: str, hint: str = "") -> None:
        mark = node.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, code, message, hint))
