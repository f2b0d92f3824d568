"""On a host set up by the package every command works as it stands: daemon up or down, as root or as an operator."""

import json
from collections.abc import Iterator

import pytest
from tests.e2e.unit_host import UnitHost, may_make_namespaces, unit_host

pytestmark = [
    pytest.mark.skipif(not may_make_namespaces(), reason="needs root and the right to make namespaces"),
    pytest.mark.timeout(180),  # some twenty commands, each a process
]

SECRETS = {"shop_a_token": "s3cret-of-the-shop"}
CONFIG = """
version: 1
platforms:
  shop-a:
    url: http://127.0.0.1:9/callbacks
    headers: {Authorization: "Bearer ${file:shop_a_token}"}
    rate: 100/min
"""


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnitHost]:
    """A host with a configuration that has a secret; the service does not run yet."""
    with unit_host(tmp_path_factory.mktemp("host")) as made:
        made.write("/etc/relay/config.yaml", CONFIG)
        yield made


def test_up(host: UnitHost) -> None:
    """With the daemon up every command finds it and its file; an operator needs no rights for it."""
    host.start(SECRETS)
    sent = host.relay("send", "shop-a", operator=True, given='{"order_id": "1"}')
    assert sent.returncode == 0, sent.stderr
    number = sent.stdout.strip()
    for command in (
        ("status",),
        ("ls",),
        ("show", number),
        ("explain", number),
        ("dead", "ls"),
        ("limit", "shop-a"),
        ("pause", "shop-a"),
        ("resume", "shop-a"),
        ("flush", "shop-a"),
        ("config", "check"),
        ("config", "show"),
        ("config", "diff"),
        ("reload", "--dry-run"),
        ("reload",),
    ):
        _works(host, *command, operator=True)
    for operator in (True, False):
        _works(host, "doctor", operator=operator)
    _works(host, "status", operator=False)
    _works(host, "config", "check", operator=False)


def _works(host: UnitHost, *command: str, operator: bool) -> None:
    ran = host.relay(*command, operator=operator)
    assert ran.returncode == 0, (command, operator, ran.stdout, ran.stderr)
    assert "fail" not in ran.stdout.split(), (command, ran.stdout)
    assert SECRETS["shop_a_token"] not in ran.stdout + ran.stderr


def test_down_as_root(host: UnitHost) -> None:
    """With the daemon down the store is read, and a secret that is gone with it is no problem of the file."""
    host.start(SECRETS)
    number = host.relay("send", "shop-a", given='{"order_id": "1"}').stdout.strip()
    assert host.stop() == 0

    for command in (("status",), ("ls",), ("show", number), ("explain", number), ("dead", "ls")):
        ran = host.relay(*command)
        assert (ran.returncode, "reading relay.db directly" in ran.stderr) == (0, True), (command, ran.stderr)
    check = host.relay("config", "check")
    assert (check.returncode, "${file:shop_a_token}" in check.stdout) == (0, True), check.stdout
    assert json.loads(host.relay("config", "check", "-o", "json").stdout) == []
    assert "Bearer ${file:shop_a_token}" in host.relay("config", "show").stdout
    assert host.relay("config", "diff", "/etc/relay/config.yaml", "/etc/relay/config.yaml").returncode == 0
    doctor = host.relay("doctor", "-o", "jsonl")
    states = {found["what"]: found["state"] for found in map(json.loads, doctor.stdout.splitlines())}
    assert (doctor.returncode, states["daemon"], states["configuration"]) == (0, "warn", "ok")
    assert "fail" not in states.values()

    host.start(SECRETS)  # what root's reading left in the state directory is no obstacle to the service
    assert host.relay("status").returncode == 0


def test_down_as_operator(host: UnitHost) -> None:
    """An operator may not read the store, and is told so and what to do; the file is still no problem."""
    host.start(SECRETS)
    host.stop()

    status = host.relay("status", operator=True)
    assert (status.returncode, status.stdout) == (4, "")
    assert "/var/lib/relay/relay.db is for the service and root: try sudo" in status.stderr
    assert host.relay("config", "check", operator=True).returncode == 0
    doctor = host.relay("doctor", operator=True)
    assert (doctor.returncode, "sudo" in doctor.stdout) == (0, True), doctor.stdout + doctor.stderr


def test_secret_that_is_nowhere(host: UnitHost) -> None:
    """While the service runs root can tell that a secret is missing: then it is a mistake of the file."""
    host.start(SECRETS)
    host.write("/etc/relay/config.yaml", CONFIG.replace("shop_a_token", "shop_a_tokn"))

    check = host.relay("config", "check")
    assert (check.returncode, "E040" in check.stdout) == (1, True)
    assert host.relay("config", "check", operator=True).returncode == 0  # may not look, so cannot tell


def test_reload_of_a_refused_file(host: UnitHost) -> None:
    """The unit's reload fails with the reason, and the daemon goes on with what it had."""
    host.start(SECRETS)
    assert host.reload().returncode == 0
    host.write("/etc/relay/config.yaml", CONFIG.replace("100/min", "100"))

    refused = host.reload()
    assert (refused.returncode, "E020" in refused.stderr) == (1, True), refused.stderr
    host.write("/etc/relay/config.yaml", "platforms: [")
    refused = host.reload()
    assert (refused.returncode, "E003" in refused.stderr) == (1, True), refused.stderr
    assert "100/100 min" not in host.relay("status").stdout
    assert host.relay("status").returncode == 0


def test_tokens(host: UnitHost) -> None:
    """Who may read the tokens acts with the operator's; others name one in RELAY_TOKEN and RELAY_INGEST_TOKEN."""
    secrets = {**SECRETS, "ops": "token-of-the-operator", "eve": "token-of-eve", "in": "token-of-the-order-center"}
    users = """
admin:
  users:
    - {name: eve, role: viewer, token: "${file:eve}"}
    - {name: ops, role: operator, token: "${file:ops}"}
ingest: {token: "${file:in}"}
"""
    host.write("/etc/relay/config.yaml", CONFIG + users)
    host.start(secrets)

    assert host.relay("pause", "shop-a").returncode == 0
    assert host.relay("send", "shop-a", given="{}").returncode == 0
    assert host.reload().returncode == 0
    refused = host.relay("pause", "shop-a", operator=True)
    assert (refused.returncode, "RELAY_TOKEN" in refused.stderr) == (1, True), refused.stderr
    refused = host.relay("send", "shop-a", operator=True, given="{}")
    assert (refused.returncode, "RELAY_INGEST_TOKEN" in refused.stderr) == (1, True), refused.stderr
    both = {"RELAY_TOKEN": secrets["ops"], "RELAY_INGEST_TOKEN": secrets["in"]}
    assert host.relay("pause", "shop-a", operator=True, environ=both).returncode == 0
    assert host.relay("send", "shop-a", operator=True, environ=both, given="{}").returncode == 0
