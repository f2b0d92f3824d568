"""What the relay is compared with: a plain aiohttp application that parses the JSON and answers 202, with no store.

Run as a process of its own: ``python -m benchmarks.bare``. Prints its URL when it listens.
"""

import asyncio
import json

import uvloop
from aiohttp import web

_ANSWER = b'{"id":"b0000000000000001","platform":"p","state":"pending"}'


async def _accept(request: web.Request) -> web.Response:
    await request.json()
    return web.Response(status=202, body=_ANSWER, content_type="application/json")


async def _serve() -> None:
    application = web.Application()
    application.router.add_post("/v1/platforms/{platform}/callbacks", _accept)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
