"""Starts the process that compares and yields what it finds, line by line."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from relay.core.errors import RelayError
from relay.reconcile.job import Comparison

_MODULE: Final = "relay.reconcile.compare"
_SHOWN_CHARACTERS = 500  # of what the process says when it fails


def differences(wanted: Comparison) -> Iterator[dict[str, Any]]:
    """Yield each difference, then the summary. Raises ``RelayError`` where the comparison itself fails."""
    if find_spec("duckdb") is None:
        raise RelayError("reconcile needs the library duckdb: install callback-relay[reconcile]")
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None, "a pipe was asked for"
        assert child.stdout is not None, "a pipe was asked for"
        assert child.stderr is not None, "a pipe was asked for"
        try:
            child.stdin.write(msgspec.json.encode(wanted))
            child.stdin.close()
            for line in child.stdout:
                yield msgspec.json.decode(line)
            words = child.stderr.read().decode(errors="replace").strip()
            code = child.wait()
        finally:
            child.kill()  # it has ended already, unless who reads here stopped early
    if code != 0:
        raise RelayError(f"the comparison failed: {words[-_SHOWN_CHARACTERS:]}")
