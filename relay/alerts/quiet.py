"""Quiet hours: a daily span in a zone of its own."""

from datetime import datetime

from relay.config.schema.alerts import QuietHours


def is_quiet(hours: QuietHours | None, wall: float) -> bool:
    """Tell whether ``wall`` (seconds since the epoch) lies in the quiet hours.

    ``from: "23:00", to: "07:00"`` holds from 23:00:00 to 06:59:59, over midnight; with equal ends it is always quiet.
    """
    if hours is None:
        return False
    clock = datetime.fromtimestamp(wall, hours.tz).time()
    if hours.begin < hours.to:
        return hours.begin <= clock < hours.to
    return clock >= hours.begin or clock < hours.to
