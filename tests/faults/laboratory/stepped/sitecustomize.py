"""Python loads this at its start where it lies on the path: the wall clock is as far off as the file says.

``CLOCK_OFF`` names the file, whose text is seconds. Everything in the relay that asks for the wall time asks ``time``.
"""

import os
import time

_real_s = time.time
_path = os.environ["CLOCK_OFF"]


def _stepped_s() -> float:
    with open(_path, encoding="ascii") as text:
        return _real_s() + float(text.read() or 0)


time.time = _stepped_s
