"""Who may do what on the admin listener, route by route, and what holds for every route whatever it does.

The table is written out here, so that a change of the code's own is seen.
"""

import json
from typing import Any

import aiohttp
import pytest
from relay.admin.http.endpoint import peer
from tests.integration.admin_side import USERS, AdminSide, admin_side

ALL = ("stats", "viewer", "operator", "privacy", "admin")
EVERYBODY = ALL[1:]  # who may see single callbacks
REVEALERS = ("privacy", "admin")
OPERATORS = ("operator", "admin")
MAY = {
    "GET /v1/platforms": ALL,
    "GET /v1/platforms/{platform}": ALL,
    "POST /v1/platforms/{platform}/pause": OPERATORS,
    "POST /v1/platforms/{platform}/resume": OPERATORS,
    "POST /v1/platforms/{platform}/flush": OPERATORS,
    "POST /v1/platforms/{platform}/limit": OPERATORS,
    "POST /v1/platforms/{platform}/simulate": OPERATORS,  # it takes seconds of a core
    "GET /v1/platforms/{platform}/series": ALL,
    "GET /v1/breakdown": ALL,
    "GET /v1/ledger": ALL,
    "GET /v1/callbacks": EVERYBODY,
    "GET /v1/callbacks/{id}": EVERYBODY,
    "POST /v1/callbacks/{id}/reveal": REVEALERS,
    "GET /v1/dead-letters": EVERYBODY,
    "GET /v1/dead-letters/groups": ALL,
    "POST /v1/operations": OPERATORS,
    "GET /v1/operations": EVERYBODY,
    "GET /v1/operations/{id}": EVERYBODY,
    "GET /v1/keys": EVERYBODY,
    "POST /v1/keys/rotate": OPERATORS,
    "POST /v1/keys/forget": ("privacy", "admin"),
    "GET /v1/hosts": EVERYBODY,
    "POST /v1/hosts/release": OPERATORS,
    "GET /v1/alerts": EVERYBODY,
    "POST /v1/alerts/{rule}/silence": OPERATORS,
    "POST /v1/alert-targets/{target}/test": OPERATORS,
    "GET /v1/reconciliations": EVERYBODY,
    "GET /v1/reconciliations/{run}": EVERYBODY,
    "POST /v1/reconciliations": OPERATORS,
    "POST /v1/reconciliations/questions": OPERATORS,
    "GET /v1/audit": EVERYBODY,
    "GET /v1/audit/head": EVERYBODY,
    "GET /v1/audit/chain": EVERYBODY,
    "GET /v1/config": EVERYBODY,
    "POST /v1/config/validate": OPERATORS,  # it would tell which files exist
    "POST /v1/config/reload": OPERATORS,
    "GET /v1/session": ALL,
    "GET /v1/events": ALL,
    "GET /metrics": ALL,
    "GET /openapi.json": ALL,
}


async def _ask(side: AdminSide, role: str, method: str, path: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {role}-token"} if role else {}
    async with (
        aiohttp.ClientSession(side.url, headers=headers) as session,
        session.request(method, path) as response,
    ):
        if response.content_type == "text/event-stream":  # it has no end
            return response.status, None
        text = await response.text()
        return response.status, json.loads(text) if response.content_type.endswith("json") else text


async def test_every_route_is_for_whom_the_table_says() -> None:
    """Each route by each role, and by nobody and a stranger: what is not granted does nothing."""
    async with admin_side(users=USERS) as side:
        assert {f"{each.method} {each.path}" for each in side.api.endpoints} == set(MAY)
        for route, roles in MAY.items():
            method, path = route.replace("{platform}", "shop-a").replace("{id}", "1").split()
            for role in ALL:
                asked = len([*side.control.asked, *side.config.reloads])
                status, _ = await _ask(side, role, method, path)
                assert (status == 403) == (role not in roles), (route, role, status)
                if role not in roles:
                    assert len([*side.control.asked, *side.config.reloads]) == asked
            for role in ("", "stranger", "view"):
                assert (await _ask(side, role, method, path))[0] == 401, (route, role)


@pytest.mark.parametrize("role", EVERYBODY)
async def test_payloads_are_unmasked_to_nobody(role: str) -> None:
    """Whoever must see one as it came asks for a reveal."""
    async with admin_side(users=USERS) as side:
        (callback_id,) = await side.accept()
        status, answer = await _ask(side, role, "GET", f"/v1/callbacks/{callback_id}?payload=1")

    assert (status, answer["payload_form"]) == (200, "masked")
    assert answer["payload"]["phone"] == "138****5678"


class _From:
    """A request from an address, as far as ``peer`` looks."""

    def __init__(self, name: object) -> None:
        self.transport = self
        self._name = name

    def get_extra_info(self, _what: str) -> object:
        return self._name


@pytest.mark.parametrize(
    ("address", "shown", "local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.8.9.10", "127.8.9.10", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("10.0.0.7", "10.0.0.7", False),
        ("172.16.3.4", "172.16.3.4", False),
        ("192.168.1.2", "192.168.1.2", False),
        ("169.254.9.9", "169.254.9.9", False),
        ("100.64.0.1", "100.64.0.1", False),
        ("203.0.113.9", "203.0.113.9", False),
        ("::ffff:10.0.0.7", "10.0.0.7", False),
        ("fd00::7", "fd00::7", False),
        ("fe80::7%eth0", "fe80::7", False),
        ("0.0.0.0", "0.0.0.0", False),
    ],
)
def test_only_loopback_is_this_machine(address: str, shown: str, local: bool) -> None:
    """Without users this machine may do everything: a private network is not this machine."""
    request: Any = _From((address, 50_000))
    assert peer(request) == (shown, local)


def test_a_unix_socket_is_this_machine() -> None:
    """Its file's mode has decided who may connect."""
    request: Any = _From("")
    assert peer(request) == ("unix", True)


async def test_no_route_takes_a_query_key_it_does_not_know() -> None:
    """A mistyped filter would list, or change, everything: 400 names the key, and nothing is done."""
    async with admin_side(users=USERS) as side:
        (callback_id,) = await side.accept()
        for route in MAY:
            method, path = route.replace("{platform}", "shop-a").replace("{id}", callback_id).split()
            status, answer = await _ask(side, "admin", method, f"{path}?platfrom=shop-a")
            assert (status, answer["code"], answer["key"]) == (400, "invalid_filter", "platfrom"), route
        assert side.control.asked == side.config.reloads == await side.store.open_operations() == []
