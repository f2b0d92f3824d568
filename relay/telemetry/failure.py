"""Describes an exception without the values in it.

The message of a foreign exception can hold anything: a payload (``KeyError``, ``ValueError``), or a URL with a token
(HTTP clients). So only our own messages and those of the operating system are passed on. Of any other exception only
the type and the place are.
"""

import os
import traceback

from relay.core.errors import RelayError

_FRAMES = 8  # the innermost frames: enough to find the place, and short enough for a log line


def describe(error: BaseException) -> dict[str, str]:
    """Return ``error`` (its type), ``detail`` (its message, if that is safe) and ``where`` (the innermost frames)."""
    described = {"error": type(error).__name__}
    if isinstance(error, RelayError):
        described["detail"] = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        described["detail"] = os.strerror(error.errno)
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    if frames:
        described["where"] = " > ".join(
            f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames
        )
    if error.__cause__ is not None:
        described["cause"] = type(error.__cause__).__name__
    return described
