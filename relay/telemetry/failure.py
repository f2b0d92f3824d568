"""Tells of an exception without telling its values.

The message of a foreign exception can hold anything: a payload (``KeyError``, ``ValueError``), a URL with a token
(HTTP clients). Only our own messages and the operating system's words are passed on; of the rest, the type and where
it was raised.
"""

import os
import traceback

from relay.core.errors import RelayError

_FRAMES = 8  # the innermost: enough to find the line, short enough for a log line


def describe(error: BaseException) -> dict[str, str]:
    """Return ``error`` (type), ``detail`` (where it is safe to tell) and ``where`` (innermost frames) as strings."""
    told = {"error": type(error).__name__}
    if isinstance(error, RelayError):
        told["detail"] = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        told["detail"] = os.strerror(error.errno)
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    if frames:
        told["where"] = " > ".join(
            f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames
        )
    if error.__cause__ is not None:
        told["cause"] = type(error.__cause__).__name__
    return told
