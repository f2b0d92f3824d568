"""The schema of ``telemetry``: where spans go, and how many."""

from typing import Annotated

from pydantic import Field

from relay.config.schema.values import PlainUrl, Section, setting


class TelemetrySettings(Section):
    """Where spans of posts and requests are sent, beside log and metrics."""

    otlp: PlainUrl | None = setting(
        None,
        "Base address of an OpenTelemetry receiver (OTLP over HTTP), such as http://127.0.0.1:4318; /v1/traces is "
        "added. Needs the extra otel. Not set: no spans are made.",
    )
    sample: Annotated[float, Field(ge=0, le=1)] = setting(
        1.0,
        "The share of traces that is kept: 0.1 is one in ten, chosen by the trace id, as callers do.",
    )
