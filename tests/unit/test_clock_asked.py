"""Whether the wall clock was set is known also where the kernel may not be asked, as in the unit's sandbox."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# Refuses adjtimex(2) and clock_adjtime(2) as ProtectClock=yes does: a classic BPF program over the number of the call.
_SANDBOXED = """
import ctypes, struct, sys
numbers = [int(each) for each in sys.argv[1:]]
allow, refuse = 0x7FFF0000, 0x00050000 | 1
asked = [(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
steps = [(0x20, 0, 0, 0), *asked, (0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Filter(len(steps), ctypes.addressof(program))), 0, 0) == 0
assert libc.adjtimex(ctypes.create_string_buffer(256)) == -1
from relay.core.clock import is_synchronized
print(is_synchronized())
"""
_NUMBERS = {"x86_64": ("159", "305"), "aarch64": ("171", "266")}.get(platform.machine())


@pytest.mark.skipif(_NUMBERS is None, reason="the numbers of the calls on this machine are not known here")
@pytest.mark.parametrize(
    ("told", "known"), [("echo yes", "True"), ("echo no", "False"), ("exit 1", "False"), (None, "False")]
)
def test_a_sandbox_asks_systemd(tmp_path: Path, told: str | None, known: str) -> None:
    """Its word counts; where it is not there, or does not know either, the clock is doubted."""
    if told is not None:
        fake = tmp_path / "timedatectl"
        fake.write_text(f"#!/bin/sh\n[ \"$*\" = 'show --property=NTPSynchronized --value' ] && {told}\n")
        fake.chmod(0o755)
    assert _NUMBERS is not None
    command = [sys.executable, "-c", _SANDBOXED, *_NUMBERS]
    environ = {**os.environ, "PATH": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert (found.stdout.strip(), found.returncode) == (known, 0), found.stderr
