"""The index page: a plain list of what this listener serves."""

from collections.abc import Iterable
from html import escape

from relay.admin.http.endpoint import AdminRoute

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_OPEN = (("GET", "/livez", "The process runs"), ("GET", "/readyz", "The store commits"))
_STYLE = "body{font:15px/1.5 sans-serif;margin:2rem}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"


def index(endpoints: Iterable[AdminRoute]) -> bytes:
    """Return the page as HTML; a path without placeholders is a link."""
    rows = [(each.method, each.path, each.summary) for each in endpoints]
    lines = "\n".join(_row(*row) for row in (*rows, *_OPEN))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>relay</title><style>{_STYLE}</style>\n'
        f"<h1>relay</h1><p>The admin listener. <code>relay status</code> shows the same in a terminal.</p>\n"
        f"<table>\n{lines}\n</table></html>\n"
    ).encode()


def _row(method: str, path: str, summary: str) -> str:
    shown = f"<code>{escape(path)}</code>"
    if method == "GET" and "{" not in path:
        shown = f'<a href="{escape(path)}">{shown}</a>'
    return f"<tr><td>{method}<td>{shown}<td>{escape(summary)}"
