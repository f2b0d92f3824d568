"""URLs of a Valkey or Redis that several hosts share: one server, sentinels that know it, or a cluster."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from relay.config.problems import BadValue, quoted

SERVER_SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "redis+cluster")
_PORTS: Final = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "redis+cluster": 6379}
_EXAMPLES: Final = {
    "redis": "redis://127.0.0.1:6379/0",
    "rediss": "rediss://store.example:6379/0",
    "redis+sentinel": "redis+sentinel://h1:26379,h2:26379/mymaster",
    "redis+cluster": "redis+cluster://h1:6379,h2:6379",
}


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Where the server is. ``name``: what the sentinels call it. The password is a secret."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    database: int = 0
    name: str = ""
    user: str | None = None
    password: str | None = None

    @property
    def shown(self) -> str:
        """The URL without who asks and with what password."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = f"/{self.name}" if self.name else f"/{self.database}" if self.scheme in ("redis", "rediss") else ""
        return f"{self.scheme}://{hosts}{path}"


def parse_server_url(text: str) -> ServerUrl:
    """Return what a URL says. Raises ``BadValue``."""
    scheme, _, rest = text.partition("://")
    example = f"write {_EXAMPLES[scheme]}" if scheme in _EXAMPLES else ""
    if scheme not in SERVER_SCHEMES or not rest:
        raise BadValue("E031", f"{quoted(scheme)} is not a store", f"write {_EXAMPLES['redis']}")
    if "?" in rest or "#" in rest:
        raise BadValue("E031", "the store's URL takes no options", example)
    userinfo, at, rest = rest.rpartition("@")
    user, colon, password = userinfo.partition(":")
    where, _, path = rest.partition("/")
    hosts = tuple(_host(part, _PORTS[scheme], example) for part in where.split(","))
    if len(hosts) > 1 and scheme in ("redis", "rediss"):
        raise BadValue("E031", f"a {scheme}: store is one server", f"write {_EXAMPLES['redis+sentinel']}")
    database, name = 0, ""
    if scheme == "redis+sentinel":
        if not path or "/" in path:
            raise BadValue("E031", "the store's URL does not say what the sentinels call the server", example)
        name = unquote(path)
    elif scheme == "redis+cluster":
        if path not in ("", "0"):
            raise BadValue("E031", "a cluster has database 0 only", example)
    elif path:
        if not path.isascii() or not path.isdigit():
            raise BadValue("E031", f"{quoted(path)} is not the number of a database", example)
        database = int(path)
    return ServerUrl(
        scheme,
        hosts,
        database,
        name,
        unquote(user) if user else None,
        unquote(password) if at and colon else None,
    )


def _host(text: str, port: int, example: str) -> tuple[str, int]:
    host, colon, given = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, given = text, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not given.isascii() or not given.isdigit() or not 0 < int(given) < 65536:
        raise BadValue("E031", f"{quoted(text)} is not a host with its port", example)
    return host, int(given)
