"""Who may come in from where: what a configuration must say before it opens a listener to others."""

import grp
import os
from pathlib import Path

import pytest
from relay.daemon.intake import ingest_settings
from relay.daemon.live import admin_settings
from tests.integration.test_connect import certificate
from tests.unit.config_files import MINIMAL, loaded, problems

USERS = "users: [{name: li, role: admin, token: t0k3nt0k3n1}]"
TLS = "tls: {cert: relay.pem, key: relay.key}"


@pytest.mark.parametrize(
    ("section", "lacking"),
    [
        ("admin: {listen: '0.0.0.0:1'}", ["admin.tls", "admin.users"]),
        (f"admin: {{listen: '0.0.0.0:1', {USERS}}}", ["admin.tls"]),
        (f"admin: {{listen: '10.0.0.5:1', {TLS}}}", ["admin.users"]),
        (f"admin: {{listen: '[::]:1', {TLS}, {USERS}}}", []),
        ("admin: {listen: '0.0.0.0:1', insecure: true}", []),
        ("admin: {listen: ['127.0.0.1:1', '[::1]:1', 'localhost:1', 'unix:/run/x.sock']}", []),
        ("ingest: {listen: '0.0.0.0:2'}", ["ingest.tls", "ingest.token"]),
        ("ingest: {listen: 'edge-1:2', token: t0k3nt0k3n2}", ["ingest.tls"]),
        (f"ingest: {{listen: '0.0.0.0:2', {TLS}}}", ["ingest.token"]),
        (f"ingest: {{listen: '0.0.0.0:2', {TLS}, tokens: [{{name: erp, token: t0k3nt0k3n3}}]}}", []),
        ("ingest: {listen: ['127.0.0.1:2', '0.0.0.0:3'], insecure: true}", []),
    ],
)
def test_a_listener_that_others_reach_is_protected(tmp_path: Path, section: str, lacking: list[str]) -> None:
    """By TLS, and by users or a token; or the file says that it is meant."""
    certificate(tmp_path, "relay")
    text = f"{MINIMAL}{section}\n"
    if not lacking:
        codes = [warning.code for warning in loaded(tmp_path, text).warnings]
        assert set(codes) <= {"W002", "W006"}  # the tokens stand in the file; anyone may post, as it is meant
        return
    (problem,) = problems(tmp_path, text)
    assert problem.code == "E054"
    assert f"set {' and '.join(lacking)}, listen on 127.0.0.1, or say " in problem.hint


def test_certificates_are_tried_before_anything_listens(tmp_path: Path) -> None:
    """A file that is not there or does not fit is named."""
    certificate(tmp_path, "relay")
    certificate(tmp_path, "other")
    for tls, named in (
        ("{cert: gone.pem}", "gone.pem"),
        ("{cert: relay.pem}", "relay.pem"),
        ("{cert: relay.pem, key: other.key}", "relay.pem"),
        ("{cert: relay.pem, key: relay.key, client_ca: relay.key}", "client_ca"),
    ):
        (problem,) = problems(tmp_path, f"{MINIMAL}ingest: {{tls: {tls}}}\n")
        assert problem.code == "E034"
        assert named in problem.message
    config = loaded(tmp_path, f"{MINIMAL}ingest: {{{TLS}}}\nadmin: {{{TLS}}}\n")
    assert ingest_settings(config, "127.0.0.1:1").tls is not None
    assert admin_settings(config, "127.0.0.1:1").tls is not None


@pytest.mark.parametrize(
    ("tokens", "code", "said"),
    [
        ("[{name: a, token: t0k3nt0k3n1}, {name: a, token: t0k3nt0k3n2}]", "E052", "listed twice"),
        (
            "[{name: a, token: t0k3nt0k3n1}, {name: b, token: t0k3nt0k3n1}]",
            "E052",
            "the same token as ingest.tokens[0]",
        ),
        ("[{name: a, token: t0k3nt0k3n1, platforms: [b]}]", "E062", "there is no platform 'b'"),
    ],
)
def test_tokens_are_told_apart(tmp_path: Path, tokens: str, code: str, said: str) -> None:
    """And are for platforms that there are."""
    (problem,) = problems(tmp_path, f"{MINIMAL}ingest: {{tokens: {tokens}}}\n")
    assert (problem.code, said in problem.message) == (code, True), problem.message


@pytest.mark.parametrize(
    ("written", "mode"),
    [("0660", 0o660), ("660", 0o660), ("0600", 0o600), ('"0666"', 0o666), ("0o660", 0o660), ("0o777", 0o777)],
)
def test_a_mode_is_octal(tmp_path: Path, written: str, mode: int) -> None:
    """However YAML reads the number."""
    own = grp.getgrgid(os.getgid()).gr_name
    config = loaded(tmp_path, f"{MINIMAL}ingest: {{unix: {{mode: {written}, group: {own}}}}}\n")
    assert ingest_settings(config, "unix:/x").file == (mode, own)


@pytest.mark.parametrize(
    ("unix", "said"),
    [
        ("{mode: 0060}", "no mode"),
        ("{mode: rw}", "no mode"),
        ("{mode: 1777}", "no mode"),
        ("{group: no-such}", "no group"),
    ],
)
def test_what_is_no_mode_or_group(tmp_path: Path, unix: str, said: str) -> None:
    """The relay itself must be able to serve the socket."""
    (problem,) = problems(tmp_path, f"{MINIMAL}ingest: {{unix: {unix}}}\n")
    assert (problem.code, said in problem.message) == ("E031", True)
