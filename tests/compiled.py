"""What the configuration compiles, from one section of the file as data: the same way as for the daemon."""

from collections.abc import Mapping
from typing import Any

from relay.config.schema.envelope import EnvelopeSection
from relay.config.schema.item_results import ResultsSection
from relay.config.schema.rules import RuleSection
from relay.wire.answers.results import Results
from relay.wire.answers.rules import Rule
from relay.wire.envelopes.plain import Envelope


def compiled_rule(rule: Mapping[str, Any]) -> Rule:
    """Return one rule of ``classify``."""
    return RuleSection.model_validate(rule).compiled


def compiled_results(results: Mapping[str, Any]) -> Results:
    """Return a platform's ``results``."""
    return ResultsSection.model_validate(results).compiled


def compiled_envelope(envelope: str | Mapping[str, Any]) -> Envelope:
    """Return a platform's ``envelope``, a name or a mapping."""
    return EnvelopeSection.model_validate({"kind": envelope} if isinstance(envelope, str) else envelope).compiled
