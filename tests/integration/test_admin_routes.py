"""What holds for every route of the admin listener, whatever it does."""

import aiohttp
from tests.integration.admin_side import USERS, admin_side


async def test_no_route_takes_a_query_key_it_does_not_know() -> None:
    """A mistyped filter would list, or change, everything: 400 names the key, and nothing is done."""
    async with (
        admin_side(users=USERS) as side,
        aiohttp.ClientSession(side.url, headers={"Authorization": "Bearer admin-token"}) as session,
    ):
        (callback_id,) = await side.accept()
        filled = {"{platform}": "shop-a", "{id}": callback_id}
        for endpoint in side.api.endpoints:
            path = endpoint.path
            for name, value in filled.items():
                path = path.replace(name, value)
            async with session.request(endpoint.method, f"{path}?platfrom=shop-a") as response:
                answer = await response.json(content_type=None)
                assert (response.status, answer["code"], answer["key"]) == (400, "invalid_filter", "platfrom"), path
        assert side.control.asked == side.config.reloads == await side.store.open_operations() == []
