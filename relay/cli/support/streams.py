"""Copes with standard streams of any kind: closed, full, a pipe without a reader, a terminal without Unicode.

With each of them a command ends with an exit code and at most one line, never with a traceback.
"""

import codecs
import contextlib
import errno
import os
import sys
from typing import TextIO

_ESCAPE = "relay-escape"


def prepare() -> None:
    """Make the streams usable: a closed one leads nowhere, and a character that an encoding lacks becomes ``\\uXXXX``.

    JSON has the same form, so a JSON answer stays valid on any terminal.
    """
    for descriptor in range(3):  # else the next file that is opened becomes standard output
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - it stays open as long as the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error(_ESCAPE, _escaped)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors=_ESCAPE)  # type: ignore[union-attr]


def finish(code: int) -> int:
    """Write out what is buffered and return the exit code; that of ``failed`` if it cannot be written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        return failed(error)
    return code


def failed(error: OSError) -> int:
    """Say why the output cannot be written, if standard error works, and return the exit code 1.

    Nothing is said about a reader that has gone (``head``, ``less``): it has read what it wanted.
    """
    for stream in (sys.stdout, sys.stderr):
        _abandon(stream)
    if error.errno != errno.EPIPE:
        with contextlib.suppress(OSError):  # it is standard error that cannot be written: the exit code says it
            os.write(2, f"relay: the output cannot be written: {os.strerror(error.errno or 0)}\n".encode())
    return 1


def is_of_output(error: OSError) -> bool:
    """Return whether an error can come from writing to a stream: then it names no file."""
    return error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)


def _abandon(stream: TextIO) -> None:
    """Send what is still buffered nowhere; else the interpreter would try again at its end and complain."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    text = "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
    return text, error.end
