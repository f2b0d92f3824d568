"""One request through the router: each way it can end, and who is told of it."""

import json
from collections.abc import Mapping

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import BaseRequest
from relay.web.dispatch import Router, Routes
from relay.web.refusal import Refusal
from relay.web.response import Response


class Told:
    """What a router tells."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.failed: list[tuple[str, BaseException]] = []

    def router(self, fault: BaseException | None = None, *, check: Refusal | None = None) -> Router:
        """Return a router with one route, whose handler, or the check before it, raises."""

        async def handle(_request: BaseRequest, values: Mapping[str, str]) -> Response:
            if fault is not None:
                raise fault
            return Response(200, values["id"].encode())

        def checked(_request: BaseRequest) -> None:
            if check is not None:
                raise check

        routes = Routes()
        routes.add("GET", "/v1/callbacks/{id}", handle)
        return Router(
            routes=routes,
            checks=(checked,),
            refused=self.refused.append,
            failed=lambda method, error: self.failed.append((method, error)),
        )


async def ask(router: Router, path: str = "/v1/callbacks/a%2Fb", method: str = "GET") -> Response:
    """Send one request."""
    answer = await router(make_mocked_request(method, path, headers={"Host": "127.0.0.1"}))
    assert isinstance(answer, Response)
    return answer


async def test_a_handler_gets_the_values_of_its_path() -> None:
    """Percent-decoded; nobody is told of what went well."""
    told = Told()
    answer = await ask(told.router())
    assert (answer.status, answer.body, answer.keep_alive) == (200, b"a/b", True)
    assert (told.refused, told.failed) == ([], [])


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [("/nowhere", "GET", "not_found"), ("/v1/callbacks/1", "DELETE", "method_not_allowed")],
)
async def test_refusals_of_the_router_are_told(path: str, method: str, code: str) -> None:
    """What is served nowhere, or not with this method, is counted like any refusal."""
    told = Told()
    answer = await ask(told.router(), path, method)
    assert json.loads(answer.body)["code"] == code
    assert told.refused == [code]


async def test_refusals_of_handlers_and_checks_are_told() -> None:
    """A check that refuses comes before the handler."""
    told = Told()
    assert (await ask(told.router(Refusal("invalid_json", "no")))).status == 400
    assert (await ask(told.router(ZeroDivisionError(), check=Refusal("forbidden_host")))).status == 403
    assert told.refused == ["invalid_json", "forbidden_host"]
    assert told.failed == []


async def test_a_bug_costs_one_request_and_is_told() -> None:
    """500 without a word of the error, the connection ends, and whoever reads the log hears of it."""
    told = Told()
    error = ZeroDivisionError("13812345678")
    answer = await ask(told.router(error))
    assert (answer.status, answer.keep_alive) == (500, False)
    assert b"13812345678" not in answer.body
    assert told.failed == [("GET", error)]
    assert told.refused == []


async def test_a_client_that_left_is_no_fault() -> None:
    """Nobody is there to answer, and nothing went wrong with us."""
    told = Told()
    answer = await ask(told.router(ConnectionResetError()))
    assert not answer.keep_alive
    assert (told.refused, told.failed) == ([], [])
