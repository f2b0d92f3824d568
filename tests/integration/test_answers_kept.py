"""The answers of the API as they were first given: no key, no value changes unnoticed.

``answers_kept.json`` holds them. A change that is meant is written there by
``RELAY_KEEP_ANSWERS=1 .venv/bin/python -m pytest tests/integration/test_answers_kept.py``, and its diff is read.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from admin_side import LEARNED, START, AdminSide, admin_side
from relay.core.model import Lane, Rate
from relay.views.configuration import ChangeView, InForce, PastReloadView, RefusedReloadView
from relay.views.moments import Instant

KEPT = Path(__file__).with_name("answers_kept.json")
_THROTTLED: dict[str, Any] = {
    "throttled_until": START + 30,
    "throttled_since": START - 5,
    "throttle_reason": "429",
    "stopped_groups": [{"group": "17", "reason": "429 for 17", "since": START - 1, "until": START + 60}],
    "last_error": "429 Too Many Requests",
    "in_flight": 1,
    "allowed": 4,
    "learned_limit": LEARNED,
}
_BROKEN = {
    "broken": True,
    "breaker_open": True,
    "breaker_reason": "5 failures in a row",
    "broken_since": START - 9,
    "probe_at": START + 21,
}


async def _lively(side: AdminSide) -> dict[str, str]:
    """Fill the store with one of everything; return the ids by what became of them."""
    ids: dict[str, str] = {}
    (ids["rejected"],) = await side.accept(key="k-1", traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-01-01")
    await side.reject(reason="400 Bad Request")
    (ids["held"],) = await side.accept(event=None)
    await side.hold()
    (ids["dropped"],) = await side.accept(lane=Lane.LOW)
    await side.bury([ids["dropped"]])
    (ids["under way"],) = await side.accept(key="k-2", lane=Lane.HIGH)
    await side.sent(1)
    (ids["behind"],) = await side.accept(key="k-2")
    (ids["waiting"],) = await side.accept(group="17")
    (ids["other"],) = await side.accept(platform="shop-b")
    (ids["removed"],) = await side.accept(platform="gone")
    await side.limited("learned:shop-a", Rate(2, 60.0))
    await side.limited("operator:shop-a/17", Rate(1, 60.0))
    side.clock.at += 2.5
    return ids


async def _answers(side: AdminSide, ids: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with aiohttp.ClientSession(side.url) as session:

        async def ask(name: str, path: str, body: Mapping[str, Any] | None = None) -> None:
            async with session.request("GET" if body is None else "POST", path, json=body) as response:
                text = await response.text()
            for word, callback_id in ids.items():
                text = text.replace(callback_id, f"<{word}>")
            found[name] = json.loads(text)

        async def ask_all(when: str) -> None:
            await ask(f"platforms, {when}", "/v1/platforms")
            for word, callback_id in ids.items():
                await ask(f"callback {word}, {when}", f"/v1/callbacks/{callback_id}")

        tried = {**LEARNED, "trying": "2/min"}
        side.control.facts = {"shop-a": {}, "shop-b": {}}
        await ask_all("idle")
        side.control.facts = {"shop-a": _THROTTLED, "shop-b": _BROKEN}
        await ask_all("stopped")
        side.control.facts = {
            "shop-a": {"waits_for": "limit", "waits_until": START + 40, "learned_limit": tried},
            "shop-b": {"waits_for": "pace", "waits_until": START + 3, "limited_until": START + 3},
        }
        await ask_all("waiting")
        await ask("pause", "/v1/platforms/shop-a/pause", {"reason": "maintenance"})
        await ask("callback paused", f"/v1/callbacks/{ids['waiting']}")
        await ask("resume", "/v1/platforms/shop-a/resume", {})
        await ask("limit", "/v1/platforms/shop-b/limit", {"rate": ["1/s", "30/min"], "for": "2h", "reason": "sale"})
        await ask("forget", "/v1/platforms/shop-b/limit", {"forget": True})
        await ask("ledger", "/v1/ledger")
        await ask("callbacks", "/v1/callbacks?limit=3")
        await ask("dead letters", "/v1/dead-letters")
        await ask("payload", f"/v1/callbacks/{ids['rejected']}?payload=1")
        await ask("payload deleted", f"/v1/callbacks/{ids['dropped']}?payload=1")
        wanted = {"platform": "shop-a", "state": "dead", "since": "2h"}
        await ask("count", "/v1/operations", {"action": "retry", "filter": wanted, "dry_run": True})
        asked = {"action": "retry", "filter": wanted, "rate": "50/min", "reorder": True, "reason": "mended"}
        await ask("retry", "/v1/operations", asked)
        asked = {"action": "resolve", "as": "delivered", "filter": {"ids": [ids["held"]]}, "expect_count": 1}
        await ask("resolve", "/v1/operations", asked)
        await ask("operations", "/v1/operations")
        await side.store.step_operation(3, 10)
        await ask("operation done", "/v1/operations/3")
        side.config.effective = InForce(
            file="relay.yaml", config={"platforms": {"shop-a": {"rate": "9/s"}}}, origins={"version": "relay.yaml:1"}
        )
        side.config.refused = RefusedReloadView(Instant(START - 60), 2, "relay config check")
        side.config.past = [
            PastReloadView(
                at=Instant(START - 60),
                by="ops",
                result="refused",
                changes=["- platforms.shop-b (3 callbacks pending)"],
                problems=2,
                todo="relay config check",
            )
        ]
        side.config.changes = {
            "changes": [ChangeView(path="platforms.shop-a.rate", old="9/s", new="8/s", needs_restart=False)],
            "added": ["shop-c"],
            "removed": {"shop-b": 3},
        }
        await ask("config", "/v1/config")
        await ask("reload tried", "/v1/config/reload", {"dry_run": True})
        await ask("reload", "/v1/config/reload", {})
        await ask("live", "/livez")
        await ask("ready", "/readyz")
    return found


async def test_no_answer_changes_unnoticed() -> None:
    """Every view with every state, wait and option, byte for byte but for ids, which each store has of its own."""
    async with admin_side() as side:
        found = await _answers(side, await _lively(side))
    for answer in found.values():
        _without_numbers_of_batches(answer)

    if os.environ.get("RELAY_KEEP_ANSWERS"):
        KEPT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(KEPT.read_text())


def _without_numbers_of_batches(answer: Any) -> None:
    """Put a word in place of batch ids: they carry the tag of their store."""
    if isinstance(answer, dict):
        if answer.get("batch"):
            answer["batch"] = "<batch>"
        for inner in answer.values():
            _without_numbers_of_batches(inner)
    elif isinstance(answer, list):
        for inner in answer:
            _without_numbers_of_batches(inner)
