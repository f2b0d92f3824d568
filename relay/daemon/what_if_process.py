"""Starts the process that tries a change of settings in virtual time, one at a time, and bounds how long it takes."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import Final

import msgspec

from relay.views.past.what_if import WhatIfJob, WhatIfResult
from relay.web.refusal import Refusal

_MODULE: Final = "relay.simulate.what_if"
_PATIENCE_S: Final = 120.0  # 50,000 callbacks twice take 15 s of a core, more beside a busy daemon


class WhatIfProcess:
    """Works jobs out."""

    def __init__(self) -> None:
        self._busy = False

    async def work_out(self, job: WhatIfJob) -> WhatIfResult:
        """Return what came of the job. Raises 503 ``overloaded`` while another is under way, or when it takes too long.

        The process ends with whoever waits for it.
        """
        if self._busy:
            raise Refusal("overloaded", "another change is being tried; try again when it is done")
        self._busy = True
        try:
            return await self._run(msgspec.json.encode(job))
        finally:
            self._busy = False

    @staticmethod
    async def _run(job: bytes) -> WhatIfResult:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", _MODULE, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        try:
            async with asyncio.timeout(_PATIENCE_S):
                told, _ = await child.communicate(job)
        except TimeoutError as error:
            raise Refusal(
                "overloaded", f"it was not worked out within {_PATIENCE_S:.0f} s; use relay simulate"
            ) from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            raise RuntimeError(f"the process that tries a change ended with {child.returncode}")
        return msgspec.json.decode(told, type=WhatIfResult)
