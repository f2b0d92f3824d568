"""What an operator does to a platform by way of any host is done by the one that sends for it, word for word."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from relay.core.model import Rate
from relay.hosts.shared_control import SharedControl, carry_out
from relay.hosts.wiring import HostWiring
from relay.views.hosts import HostPage
from relay.views.live import LiveFacts

_DEED: dict[str, Any] = {"actor": "ops", "action": "x"}
_RATES = (Rate(5, 1.0), Rate(100, 60.0))


class Local:
    """The control of one host; writes down what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def views(self) -> Mapping[str, LiveFacts]:
        """Return how the platform stands."""
        return {"shop": LiveFacts(pause_reason="as the owner tells it")}

    def __getattr__(self, verb: str) -> Any:
        async def do(*given: Any, **named: Any) -> int:
            self.done.append((verb, given, named))
            return 7

        return do


class Wire:
    """Carries an errand to the owner as JSON, as the store does."""

    def __init__(self, owner: Local) -> None:
        self._owner = owner

    async def ask(self, name: str, verb: str, **words: Any) -> Any:
        """Return the owner's answer."""
        return json.loads(json.dumps(await carry_out(self._owner, name, verb, json.loads(json.dumps(words)))))


def control(local: Local, owner: Local, *, here: bool) -> SharedControl:
    """Return the control of a host that sends for the platform, or of another one."""
    return SharedControl(
        local,  # type: ignore[arg-type]
        Wire(owner),  # type: ignore[arg-type]
        runs=lambda _name: here,
        configured=lambda: ["shop"],
        elsewhere=dict,
    )


@pytest.mark.parametrize(
    ("verb", "given", "named"),
    [
        ("pause", ("shop", "a fair"), {"until": 1234.5, "deed": _DEED}),
        ("pause", ("shop", "a fair"), {"until": None, "deed": _DEED}),
        ("resume", ("shop",), {}),
        ("flush", ("shop", None), {}),
        ("flush", ("shop", "17"), {}),
        ("pause_group", ("shop", "17", "a fair"), {"until": 1234.5, "deed": _DEED}),
        ("resume_group", ("shop", "17"), {"deed": _DEED}),
        ("limit", ("shop", _RATES), {"until": 1234.5, "reason": "a sale"}),
        ("limit_group", ("shop", "17", _RATES), {"until": 1234.5, "reason": "a sale", "deed": _DEED}),
        ("forget_limit", ("shop",), {}),
    ],
)
async def test_another_host_does_what_this_one_would(verb: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Every deed arrives with all of its words: for how long, at which rates, why, and whose it was."""
    mine, theirs, idle = Local(), Local(), Local()
    await getattr(control(mine, idle, here=True), verb)(*given, **named)
    asking = control(idle, theirs, here=False)
    await getattr(asking, verb)(*given, **named)
    assert idle.done == []
    assert [(done, [_plain(each) for each in words], rest) for done, words, rest in theirs.done] == [
        (done, [_plain(each) for each in words], rest) for done, words, rest in mine.done
    ]
    assert asking.views()["shop"].pause_reason == "as the owner tells it"


def _plain(given: Any) -> Any:
    return list(given) if isinstance(given, tuple) else given


@pytest.mark.parametrize("owner", ["edge-1", "edge-2", None])
@pytest.mark.parametrize("first_is_gone", [False, True])
def test_one_host_tells_of_a_platform(owner: str | None, first_is_gone: bool) -> None:
    """The one that sends for it; the first live one while none does."""
    items = [
        SimpleNamespace(name=name, platforms=["shop"] if name == owner else [], state=state)
        for name, state in (("edge-1", "gone" if first_is_gone else "accepting"), ("edge-2", "accepting"))
    ]
    telling = []
    for name in ("edge-1", "edge-2"):
        host = HostWiring.__new__(HostWiring)
        host._name = name
        host._ownership = SimpleNamespace(owns=lambda _platform, name=name: name == owner)  # type: ignore[assignment]
        host.page = lambda: HostPage(items=items)  # type: ignore[method-assign,arg-type]
        if host.watches("shop"):
            telling.append(name)
    assert telling == [owner or ("edge-2" if first_is_gone else "edge-1")]
