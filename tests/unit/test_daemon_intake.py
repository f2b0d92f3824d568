"""What intake is told of the configuration, setting by setting."""

import json
from pathlib import Path

from relay.config.load import loads
from relay.config.schema.file import Config
from relay.daemon.intake import directory, ingest_settings
from relay.daemon.live import admin_settings, admin_users
from relay.daemon.stores import open_tokens
from relay.delivery.tokenstore import FileTokens, MemoryTokens


def config(**changes: object) -> Config:
    """Return a configuration with every setting of the listeners."""
    stated = {
        "version": 1,
        "ingest": {
            "listen": ["127.0.0.1:1", "127.0.0.1:2"],
            "token": "in-token",
            "hosts": ["in.internal"],
            "origins": ["https://in.internal"],
            "max_body": "3KiB",
            "max_bulk": "5MiB",
        },
        "admin": {
            "hosts": ["admin.internal"],
            "origins": ["https://admin.internal"],
            "users": [{"name": "li", "role": "viewer", "token": "li-token"}],
        },
        "platforms": {
            "shop": {
                "url": "https://shop.example/",
                "key": "order.id",
                "group": "shop_id",
                "expires": "2h",
                "batch": {"max_bytes": "1MiB"},
                "accept": {"path": "/shop/push", "reply": {"status": 201, "body": "{}"}},
            }
        },
        "routes": [{"match": {"event": "order.*"}, "to": ["shop"]}],
    }
    return loads(json.dumps({**stated, **changes}), path="config.yaml", environ={})


def test_the_ingest_listener_is_told_every_setting() -> None:
    """Bounds, token, hosts and origins, each listener its own address."""
    told = ingest_settings(config(), "127.0.0.1:2")
    assert (told.listen, told.token, told.hosts, told.origins) == (
        "127.0.0.1:2",
        "in-token",
        ("in.internal",),
        ("https://in.internal",),
    )
    assert (told.max_body, told.max_bulk) == (3 * 1024, 5 * 1024**2)


def test_the_admin_listener_is_told_every_setting() -> None:
    """Hosts, origins and who may do what."""
    told = admin_settings(config(), "127.0.0.1:8788")
    assert (told.listen, told.hosts, told.origins) == (
        "127.0.0.1:8788",
        ("admin.internal",),
        ("https://admin.internal",),
    )
    (user,) = admin_users(config())
    assert (user.name, user.role, user.token) == ("li", "viewer", "li-token")


def test_a_platforms_intake_knows_its_settings() -> None:
    """Key and group out of the payload, how long a callback may wait, and how large it may be."""
    intake = directory(config()).platforms["shop"]
    payload = b'{"order": {"id": 7}, "shop_id": "s1"}'
    assert intake.key is not None
    assert intake.group is not None
    assert (intake.key(payload), intake.group(payload), intake.group_path) == ("7", "s1", "shop_id")
    assert (intake.needs_json, intake.expires_s, intake.max_bytes) == (True, 7200.0, 1024**2)


def test_routes_and_drop_in_paths_are_the_files() -> None:
    """What no route takes goes nowhere; a drop-in path answers as its platform would."""
    made = config()
    known = directory(made)
    assert known.routing.choose(b"{}", "order.paid").to == ("shop",)
    assert known.routing.choose(b"{}", "stock.changed").to == ()
    (path,) = known.drop_ins
    assert (path.path, path.platform.name, path.status, path.body, path.content_type) == (
        "/shop/push",
        "shop",
        201,
        b"{}",
        "application/json",
    )


def test_tokens_are_kept_where_there_is_a_key_for_them(tmp_path: Path) -> None:
    """With ``store.token_key`` in a file, without it in memory."""
    url = f"sqlite:{tmp_path}/relay.db"
    assert isinstance(open_tokens(config(store={"url": url, "token_key": "A" * 43 + "="})), FileTokens)
    assert isinstance(open_tokens(config(store={"url": url})), MemoryTokens)
