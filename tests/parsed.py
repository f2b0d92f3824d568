"""Reads source code as trees, each file once."""

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def parsed(path: Path) -> ast.Module:
    """Return the tree of a file. CPython 3.11 fails where a collection comes between (SystemError, gh-106905)."""
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()


@cache
def texts_in(path: Path) -> tuple[str, ...]:
    """Return the texts that stand in a file, in the order in which they are found."""
    return tuple(
        node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
