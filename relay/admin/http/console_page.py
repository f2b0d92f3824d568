"""The console: its page and the files it is made of, read once, compressed when first asked for.

Every file's path has a hash over all of them. So a browser may keep them for ever, and an upgraded relay is never shown
with files of the one before.
"""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

from aiohttp.web import BaseRequest

from relay.web.dispatch import Routes
from relay.web.refusal import Refusal
from relay.web.response import Response

FOLDER = Path(__file__).parents[1] / "console"
PAGE = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_SAFE = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_FOR_EVER = "public, max-age=31536000, immutable"
_PLACE = b"{{assets}}"


class ConsoleFiles:
    """The files below ``FOLDER``, as they are served."""

    def __init__(self) -> None:
        files = {
            str(path.relative_to(FOLDER)): path.read_bytes()
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in _TYPES
        }
        whole = hashlib.sha256(b"\0".join(name.encode() + b"\0" + body for name, body in files.items()))
        self.base = f"/assets/{whole.hexdigest()[:16]}"
        files[PAGE] = files[PAGE].replace(_PLACE, self.base.encode())
        self.plain = files
        self._packed: dict[str, bytes] = {}

    def packed(self, name: str) -> bytes:
        """Return a file as it is sent to who takes gzip."""
        if name not in self._packed:
            self._packed[name] = gzip.compress(self.plain[name], 9, mtime=0)
        return self._packed[name]

    def add_to(self, routes: Routes) -> None:
        """Serve the page at ``/`` and below ``/ui/``, and the files under the path with the hash."""
        routes.add("GET", "/", self._page)
        routes.add("GET", "/ui", self._page)
        routes.add_below("/ui/", self._page)
        routes.add_below(f"{self.base}/", self._file)

    async def _page(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        return await self._answer(request, PAGE, "no-cache")

    async def _file(self, request: BaseRequest, values: Mapping[str, str]) -> Response:
        name = request.path.removeprefix(f"{self.base}/")
        if name not in self.plain:
            raise Refusal("not_found", "the console has no such file")
        return await self._answer(request, name, _FOR_EVER)

    async def _answer(self, request: BaseRequest, name: str, kept: str) -> Response:
        headers = {**_SAFE, "Cache-Control": kept, "Vary": "Accept-Encoding"}
        body = self.plain[name]
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"], packed = "gzip", self._packed.get(name)
            body = await asyncio.to_thread(self.packed, name) if packed is None else packed  # the largest takes 11 ms
        return Response(200, body, content_type=_TYPES[Path(name).suffix], headers=headers)
