"""Topology: what all hosts must agree on before any of them sends, as a generation and a digest.

Two hosts with different files could see different components, and so send under one limit twice, or under two values
of it. So the store holds the digest of the file in force. A host with another digest accepts and shows, but owns
nothing, until its file is the same or its own is published by a reload.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from relay.core.model import Quota, StoreRules


class Topology(NamedTuple):
    """What the store holds; generation 0 stands for nothing."""

    generation: int = 0
    digest: str = ""
    published_by: str = ""


def digest_of(rules: StoreRules, groups: Mapping[str, str | None]) -> str:
    """Return the digest of platforms, quotas, groups and rates, with what each counts and keeps for others.

    ``groups`` holds each platform's group expression.

    What may differ between two hosts without harm is not in it: addresses to listen on, secrets, retry times.
    """
    facts = {
        "platforms": {name: [sorted(rule.quotas), groups.get(name)] for name, rule in sorted(rules.platforms.items())},
        "quotas": {name: _described(quota) for name, quota in sorted(rules.quotas.items())},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _described(quota: Quota) -> list[object]:
    rates = sorted((rate.limit, rate.window_s, rate.unit, str(rate.calendar or "")) for rate in quota.rates)
    return [rates, quota.burst, quota.per_group, quota.group, list(quota.reserve)]


def publishes(
    held: Topology, *, mine: str, asked: bool, starting: bool, others: Iterable[str], everywhere: bool
) -> bool:
    """Say whether this host puts its own digest in force.

    1. The store holds none yet.
    2. A person asked for it with a reload.
    3. It starts, and no other host is live: the file of the only host is the file.
    4. Every live host has had this file for 30 s (``everywhere``): it was rolled out by restarts, and nobody is left
       who could send under the one before.
    """
    if held.digest == mine:
        return False
    return not held.digest or asked or everywhere or (starting and not any(True for _ in others))
