"""Keeps one platform's pipeline running: started again after a failure, and stopped when it fails alike three times.

A pipeline that raises is a bug of ours. It is started again after 1 s, 2 s, 4 s ... up to a minute. What it had under
way is settled as crashed, so each failure costs its callbacks an attempt. A bug that is met again and again would use
up the budget of all of them. So after three failures alike the platform stands still and says so. It goes on when an
operator resumes it, its settings change, or the relay is restarted.
"""

import asyncio
from typing import Final

from relay.core.clock import Clock
from relay.delivery.pipeline import Pipeline
from relay.telemetry.events import Events
from relay.telemetry.failure import describe

_FIRST_S: Final = 1.0
_MOST_S: Final = 60.0
ALIKE: Final = 3
"""So many failures of one kind in a row, without anything accepted between, stop the platform."""


class Lasting:
    """Runs ``pipeline`` until cancelled. ``stopped`` says why it stands still; empty while it does not."""

    def __init__(self, pipeline: Pipeline, *, clock: Clock, events: Events) -> None:
        self.pipeline = pipeline
        self.stopped = ""
        self.stopped_at = 0.0
        self._clock = clock
        self._events = events
        self._go = asyncio.Event()

    def go(self) -> None:
        """Start again what stands still."""
        self._go.set()

    async def run(self) -> None:
        """Start the pipeline again after each failure, until it stands still; then wait for ``go``."""
        wait_s, alike, before = _FIRST_S, 0, ("", 0.0)
        while True:
            began_at = self._clock.now()
            try:
                await self.pipeline.run()
            except Exception as error:  # noqa: BLE001 - a bug in one platform's pipeline must not stop the others
                facts = describe(error)
                failure = (f"{facts['error']} at {facts.get('where', '')}", self.pipeline.gate.last_accepted_at)
                alike = alike + 1 if failure == before else 1
                before = failure
                if alike >= ALIKE:
                    await self._stand_still(error)
                    wait_s, alike = _FIRST_S, 0
                    continue
                if self._clock.now() - began_at > _MOST_S:
                    wait_s = _FIRST_S
                self._events.pipeline_failed(platform=self.pipeline.terms.platform, error=error, restart_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(_MOST_S, wait_s * 2)

    async def _stand_still(self, error: Exception) -> None:
        platform = self.pipeline.terms.platform
        self._go.clear()
        self.stopped_at = self._clock.now()
        self.stopped = (
            f"stopped: the relay failed {ALIKE} times alike with it ({type(error).__name__}, see the log); "
            f"change its settings, or relay resume {platform}"
        )
        self._events.pipeline_stopped(platform=platform, error=error, times=ALIKE)
        await self._go.wait()
        self.stopped = ""
