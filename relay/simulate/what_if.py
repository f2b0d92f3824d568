"""``python -m relay.simulate.what_if``: one job on stdin, its result on stdout.

It is a process of its own at low priority, so that seconds of computing hold up no delivery.
"""

import os
import sys
from typing import Final

import msgspec

from relay.config.load import loads
from relay.simulate.figures import RunFigures, assumptions, figures
from relay.simulate.record import Record
from relay.simulate.run import Scenario, simulate
from relay.simulate.traffic import Incoming, Surge, Traffic
from relay.standin.settings import Settings
from relay.views.past.what_if import WhatIfFigures, WhatIfJob, WhatIfResult

_MINUTE_S: Final = 60.0
_LOW_PRIORITY: Final = 10  # added to the niceness


def work_out(job: WhatIfJob) -> WhatIfResult:
    """Run the job's traffic under each of its configurations. Raises ``ConfigInvalid``."""
    found: dict[str, WhatIfFigures] = {}
    assumed: list[str] = []
    for name, text in job.configs.items():
        scenario = _scenario(job, text)
        record = Record()
        ended = simulate(scenario, record)
        assumed = assumptions(scenario)
        found[name] = _told(job, record, figures(scenario, record, ended))
    return WhatIfResult(figures=found, assumed=assumed)


def _scenario(job: WhatIfJob, text: str) -> Scenario:
    least_s, most_s = job.answer_s
    latency = f"{least_s * 1000:.0f}ms..{most_s * 1000:.0f}ms"
    traffic = Traffic(
        for_s=job.span_s,
        bursts=(Surge(job.waiting, 0.0),) if job.waiting else (),
        replayed=[Incoming(at_s, None if key is None else f"k{key}") for at_s, key in job.arrivals],
    )
    settings = Settings().changed({"limit": job.limits, "latency": latency})
    return Scenario(loads(text, path=job.file), job.platform, settings, (), traffic, seed=1)


def _told(job: WhatIfJob, record: Record, run: RunFigures) -> WhatIfFigures:
    left = 0
    for level in record.levels():
        if level.at_s > job.span_s:
            break
        left = level.pending
    sent = sum(request.at_s <= job.span_s for request in record.requests)
    return WhatIfFigures(
        drained_s=None if run.pending else max(0.0, run.ran_s - job.span_s),
        left=left,
        backlog_peak=run.backlog_peak,
        p50_s=run.p50_s,
        p99_s=run.p99_s,
        requests_per_min=sent * _MINUTE_S / job.span_s,
        items_per_request=run.items_per_request,
        slots_used=run.slots_used,
        rejects=run.rejects,
        delivered=run.delivered,
        expired=run.expired,
    )


def main() -> None:
    """Read the job, write the result."""
    os.nice(_LOW_PRIORITY)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=WhatIfJob)
    sys.stdout.buffer.write(msgspec.json.encode(work_out(job)))


if __name__ == "__main__":
    main()
