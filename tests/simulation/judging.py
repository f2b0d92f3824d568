"""Judges a run: by the checker of the end-to-end tests for each platform, and by what stands in the logs."""

import json
from typing import Any

import msgspec
from relay.views.callback_view import ListedCallback
from tests.e2e.checker import Evidence, check
from tests.simulation.plan import KEK
from tests.simulation.posting import CANARY
from tests.simulation.world import World

_BUGS = ("handler_failed", "pipeline_failed", "library")


def evidence(world: World, name: str) -> Evidence:
    """Return what everybody wrote down about one platform."""
    platform = world.platforms[name]
    section = world.config.platforms[name]
    rules = world.config.store_rules()
    rates = [rate for quota in rules.platforms[name].quotas for rate in rules.quotas[quota].rates]
    stored = [_row(world, row) for row in world.stored if row.platform == name]
    ledgers = [
        {"total": reading["platforms"][name], "platforms": {name: reading["platforms"][name]}}
        for reading in world.ledgers
        if name in reading["platforms"]
    ]
    return Evidence(
        posted=world.posting.posted[name],
        arrivals=platform.arrivals,
        stored=stored,
        ledgers=ledgers,
        kills=world.kills,
        rates=rates,
        max_items=section.batch.max_items,
        max_bytes=section.batch.max_bytes,
        timeout_s=section.timeout,
        concurrency=section.concurrency,
        commit_s=world.commit_s,
        backoff_s=section.retry.backoff.base,
        unconnected=platform.unconnected,
        asked=world.posting.asked,
        deaf=world.deaf,
        waiting=[row.id for row in world.waiting if row.platform == name],
        secrets=[CANARY.encode(), KEK.encode()],
        texts=world.texts,
    )


def _row(world: World, row: ListedCallback) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.structs.asdict(row)
    return facts | ({"digest": world.digests[row.id]} if row.id in world.digests else {})


def findings(world: World) -> list[str]:
    """Return what was broken, as sentences."""
    found = list(world.bugs)
    for name in world.platforms:
        for what, sentences in check(evidence(world, name)).items():
            found += [f"{name}: {what}: {sentence}" for sentence in sentences]
    if world.posting.gave_up:
        found.append(f"I12: {world.posting.gave_up} posts were never answered")
    logs = [text for name, text in world.texts.items() if name.startswith("log")]
    told = [json.loads(line) for text in logs for line in text.splitlines()]
    found += [f"the log tells of a bug: {line}" for line in told if line["event"] in _BUGS]
    alerted = {line["about"] for line in told if line["event"] == "alert_fires" and line["rule"] == "held"}
    held = {row.platform for row in world.stored if row.held}
    return found + [f"{name}: nobody was told of what is held" for name in sorted(held - alerted)]


def summary(world: World) -> str:
    """Say how much happened."""
    accepted = sum(posted.accepted for rows in world.posting.posted.values() for posted in rows)
    requests = sum(len(platform.arrivals) for platform in world.platforms.values())
    return (
        f"{world.loop.time():.0f} s, {accepted} callbacks accepted, {requests} requests, {len(world.kills)} ends of "
        f"the daemon, {world.machine.met} faults of the disk met"
    )


def trace(world: World) -> str:
    """Return everything that the world saw, to compare two runs."""
    seen = [[(name, *arrival.items()) for arrival in played.arrivals] for name, played in world.platforms.items()]
    return repr([*seen, world.posting.asked, world.kills, world.stored])
