"""References to secrets: how they resolve, and that what they hold is never shown."""

from functools import cache
from pathlib import Path

import pytest
from config_files import codes, loaded, platform, problems, write
from hypothesis import example, given
from hypothesis import strategies as st
from relay.config.diff import difference
from relay.config.effective import as_yaml, effective
from relay.config.load import loads
from relay.config.problems import ConfigInvalid
from relay.config.reading.references import scrub
from relay.config.reading.showing import masked

TOKEN = "s3cret-value-71"
FILE = """version: 1
ingest: {token: "${file:ingest_token}"}
admin: {users: [{name: ops, role: operator, token: "${env:OPS}"}]}
platforms:
  a:
    url: "https://a.example/?access_token=${env:OPS}&v=2"
    headers: {Authorization: "Bearer ${file:ingest_token}", X-Api-Key: typed-in, X-Shop: "17"}
"""


def test_references_resolve_beside_the_file_and_in_the_environment(tmp_path: Path) -> None:
    """A file is read without its last line break; a variable is taken as it is; both may stand inside a text."""
    write(tmp_path, TOKEN + "\n", "ingest_token")
    config = loaded(tmp_path, FILE, {"OPS": "ops-token"})
    assert config.ingest.token == TOKEN
    assert config.admin.users[0].token == "ops-token"
    assert config.platforms["a"].headers["Authorization"] == f"Bearer {TOKEN}"


def test_credentials_directory_comes_first(tmp_path: Path) -> None:
    """Where systemd hands credentials over, those are taken."""
    write(tmp_path, "old", "ingest_token")
    (tmp_path / "credentials").mkdir()
    write(tmp_path / "credentials", "new", "ingest_token")
    config = loaded(tmp_path, FILE, {"OPS": "o", "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    assert config.ingest.token == "new"


def test_what_a_reference_holds_is_text_only(tmp_path: Path) -> None:
    """A value that looks like YAML or like another reference changes nothing but the text it stands in."""
    config = loaded(
        tmp_path,
        'version: 1\nplatforms: {a: {url: https://a/, headers: {X: "${env:EVIL}", Y: "$${env:EVIL}"}}}\n',
        {"EVIL": '${env:HOME}", rate: 1/s, x: "'},
    )
    assert config.platforms["a"].headers == {"X": '${env:HOME}", rate: 1/s, x: "', "Y": "${env:EVIL}"}
    assert config.platforms["a"].rate == ()


def test_unresolvable_references_are_all_named(tmp_path: Path) -> None:
    """Every reference that leads nowhere is named with its key, and only once."""
    write(tmp_path, "", "empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    text = (
        'version: 1\ningest: {token: "${file:gone}"}\nplatforms:\n  a:\n    url: "${env:NOPE}"\n    headers:\n'
        '      A: "${file:empty}"\n      B: "${file:binary}"\n      C: "${HOME}"\n      D: "${file:config.yaml/x}"\n'
    )
    found = problems(tmp_path, text)
    assert [(one.line, one.col, one.code) for one in found] == [
        (2, 17, "E040"), (5, 10, "E040"), (7, 10, "E040"), (8, 10, "E040"), (9, 10, "E041"), (10, 10, "E040"),
    ]  # fmt: skip
    assert found[0].message == f"ingest.token: ${{file:gone}}: there is no file {tmp_path / 'gone'}"
    assert "did you mean ${env:HOME}?" in found[4].hint


def test_secrets_are_masked_where_settings_are_shown(tmp_path: Path) -> None:
    """References are shown as written, literal secrets as ***, and no object shows its contents."""
    write(tmp_path, TOKEN, "ingest_token")
    config = loaded(tmp_path, FILE, {"OPS": "ops-token-value"})
    shown = as_yaml(effective(config), origin=True) + repr(config) + str(config.platforms) + repr(config.admin.users)
    assert "${file:ingest_token}" in shown
    assert "X-Api-Key: '***'" in shown
    assert "X-Shop: '***'" in shown  # not a name known to be harmless
    assert "v=2" in shown
    for secret in (TOKEN, "ops-token-value", "typed-in"):
        assert secret not in shown


def test_secrets_are_kept_out_of_problems(tmp_path: Path) -> None:
    """A message about a value from a reference does not quote it, however wrong it is."""
    environ = {"S": "sup3r secret hu5h"}
    for settings in (
        'timeout: "${env:S}"', 'url2: "${env:S}"', 'key: "${env:S}["', 'envelope: "${env:S}"', 'headers: "${env:S}"',
        'quotas: ["${env:S}"]', 'method: "${env:S}"', 'rate: "${env:S}"', 'classify: [{status: "${env:S}", as: ok}]',
        'concurrency: "${env:S}"', 'classify: [{path: "${env:S}", header: "${env:S}", in: [1], as: "${env:S}"}]',
        'headers: {X-A: "${env:S}\\n"}', 'batch: {max_bytes: "${env:S}", max_items: "${env:S}"}',
    ):  # fmt: skip
        found = platform(tmp_path, settings, environ)
        assert found
        for problem in found:
            assert "sup3r" not in str(problem), settings
            assert "hu5h" not in str(problem), settings


def test_no_piece_of_a_secret_is_quoted(tmp_path: Path) -> None:
    """A message that would quote a part of the value, such as its unit, says only what was expected."""
    (found,) = platform(tmp_path, 'timeout: "${env:S}"', {"S": "77hushhush"})
    assert (found.code, found.message) == (
        "E021",
        "platforms.a.timeout: what the reference holds is not a duration",
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            'auth: {kind: bearer, token: "${env:S}"}\nheaders: {Authorization: x}',
            "E051 platforms.a.auth: the header Authorization is also set under headers; remove one of them",
        ),
        (
            'confirm: {url: https://a/, headers: {A: "${env:S}"}, classify: []}',
            "E051 platforms.a.confirm: confirm.classify is empty, so no answer would decide anything; "
            "add a rule, as: ok",
        ),
        (
            'envelope: {kind: object, static: {t: "${env:S}"}}',
            "E051 platforms.a.envelope: envelope object needs items_at, where the list of callbacks goes, or item, "
            "a mapping",
        ),
        (
            'envelope: {kind: object, items_at: o, item: {t: "${env:S}"}}',
            "E027 platforms.a.envelope.item.t: what the reference holds is not a JMESPath expression",
        ),
        (
            'classify: [{status: [200, "${env:S}"], as: ok}]',
            "E030 platforms.a.classify[0].status[1]: what the reference holds is not a usable classify rule",
        ),
        (
            'headers: {A: "${env:S}\\n", B: "c\\n"}',
            "E029 platforms.a.headers.A: what the reference holds is not a usable header",
        ),
    ],
)
def test_a_reference_takes_only_its_own_words_away(tmp_path: Path, settings: str, expected: str) -> None:
    """What is said of the mapping around it stays whole; of the value itself no piece is told."""
    found = platform(tmp_path, settings, {"S": "$.s3[cret"})
    assert str(found[0]).partition(": ")[2] == expected
    assert "s3[cret" not in "".join(map(str, found))


def test_scrubbing() -> None:
    """The last net takes resolved values out of any text, also as Python would quote them."""
    values = frozenset({"a'b\nc-secret", "longer secret", "ok"})
    assert scrub("x longer secret y a'b\nc-secret ok", values) == "x *** y *** ok"
    assert "c-secret" not in scrub(repr("a'b\nc-secret"), values)


def test_an_unknown_quota_from_a_reference_is_not_quoted(tmp_path: Path) -> None:
    """Checks across settings keep to the same rule."""
    found = platform(tmp_path, 'quotas: ["${env:S}"]', {"S": "sup3r-secret"})
    assert [problem.code for problem in found] == ["E050"]
    assert "sup3r" not in str(found[0])


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (("headers", "Authorization"), "Bearer abc", "Bearer ***"),
        (("headers", "Authorization"), "Bearer ${file:t}", "Bearer ${file:t}"),
        (("headers", "Authorization"), "Bearer x${file:t}y", "Bearer ***${file:t}***"),
        (("headers", "Cookie"), "a=b", "***"),
        (("token",), "abc", "***"),
        (("secret", 0), "abc", "***"),
        (("password",), 12345, "***"),
        (("url",), "https://user:pw@h/p?x=1&sign=ab", "https://***@h/p?x=***&sign=***"),
        (("url",), "https://h/p", "https://h/p"),
        (("key",), "order_id", "order_id"),
    ],
)
def test_masking(path: tuple[str | int, ...], value: object, shown: str) -> None:
    """What a key or a URL part calls a secret is hidden; references and the rest stay readable."""
    assert masked(path, value) == shown


def test_masking_a_broken_url() -> None:
    """What cannot be read as a URL is hidden whole."""
    assert masked(("url",), "https://[") == "***"


def test_a_literal_secret_is_a_warning(tmp_path: Path) -> None:
    """A secret typed into the file is usable, and pointed out."""
    write(tmp_path, TOKEN, "ingest_token")
    warnings = loaded(tmp_path, FILE, {"OPS": "o"}).warnings
    assert [(one.line, one.col, one.code) for one in warnings] == [(7, 72, "W002")]


def test_a_rotated_secret_is_a_difference_without_a_value(tmp_path: Path) -> None:
    """A new value behind the same reference changes the platform, and shows nothing."""
    write(tmp_path, TOKEN, "ingest_token")
    old, new = (loaded(tmp_path, FILE, {"OPS": value}) for value in ("one", "two"))
    found = difference(old, new)
    assert (found.changed, found.changes) == (("a",), ())
    assert found.hidden == (("platforms", "a"), ("admin",))


def test_secret_too_large(tmp_path: Path) -> None:
    """A file of megabytes is the wrong file."""
    write(tmp_path, "x" * 70_000, "ingest_token")
    assert codes(tmp_path, FILE, {"OPS": "o"}) == [(2, 17, "E040"), (7, 30, "E040")]


S = "Zq7Xw9KpLm3Tn5Rv"


def test_what_is_shown_is_an_allow_list(tmp_path: Path) -> None:
    """Values under free names, logins, odd path segments and constants are hidden, whatever they are called."""
    text = f"""version: 1
credentials:
  c:
    kind: oauth2
    token_url: "https://u:{S}@t.example/t/{S}?k={S}"
    client_id: shown-id
    client_secret: {S}
    params: {{x: {S}}}
platforms:
  a:
    url: "https://a.example/hook/{S}?auth={S}&pwd={S}&v=2.0&{S}"
    headers: {{X-Auth: {S}, X-Session: "a={S}", Content-Type: application/json}}
    auth: {{use: c}}
    envelope:
      kind: object
      items_at: d
      static: {{pwd: {S}, deep: [{{sessionKey: {S}}}], pin: 123456, format: json}}
      item: {{a: "order.id", b: "'{S}'"}}
    sign:
      kind: sorted
      secret: "{S}"
      pre: "{S}{{secret}}"
      params: {{k: {S}, t: "{{timestamp}}"}}
      signed_only: {{k2: {S}}}
      vars: {{k3: {S}}}
    confirm:
      url: "https://a.example/get/{S}?id={{key}}&k={S}"
      method: POST
      headers: {{X-Pass: {S}}}
      body: {{n: "'{S}'", m: key}}
      classify: [{{status: 200, as: ok}}]
    accept: {{path: /in, reply: {{status: 200, body: '{{"errcode":0,"echo":"{S}"}}'}}}}
    connect: {{proxy: "http://proxy.example:3128/", proxy_auth: "u:{S}"}}
"""
    config = loaded(tmp_path, text)
    shown = as_yaml(effective(config), origin=False)
    assert S not in shown
    for seen in ("shown-id", "/hook/***?auth=***", "v=2.0", "application/json", "order.id", "{timestamp}", "errcode"):
        assert seen in shown, seen
    assert {S, f"u:{S}"} <= config.secrets_of("a")


def test_a_presets_own_words_are_shown(tmp_path: Path) -> None:
    """What the package brings is no secret; what the file puts beside it may be."""
    keys = 'auth: {token: t}, sign: {secret: s, params: {app_key: "1234"}}'
    text = f"version: 1\nplatforms: {{a: {{preset: taobao-logistics, {keys}}}}}\n"
    shown = as_yaml(effective(loaded(tmp_path, text)), origin=False)
    assert "taobao.logistics.offline.send" in shown
    assert "sign_method: hmac-sha256" in shown
    assert "1234" not in shown


@pytest.mark.parametrize(
    "settings",
    [
        f"headers: {{X-Auth: {S}, X-Auth2: 7712345678}}",
        f"auth: {S}",
        f"auth: {{kind: bearer, token: [{S}]}}",
        f"auth: {{kind: {{a: {S}}}, token: {S}}}",
        f"sign: {S}",
        f"headers: {S}",
        f'connect: {{proxy: "ftp://u:{S}@h/"}}',
        f'confirm: {{url: "ftp://h/{S}", classify: [{{status: 200, as: ok}}]}}',
        f"envelope: {{kind: object, items_at: o, item: {{a: \"'{S}'[\"}}}}",
        f'headers: {{X-A: "{S}\\n"}}',
    ],
)
def test_problems_do_not_quote_what_was_typed(tmp_path: Path, settings: str) -> None:
    """A mistake about a value that would not be shown does not show it either."""
    for problem in platform(tmp_path, settings):
        assert S not in str(problem)
        assert "7712345678" not in str(problem)


def test_what_nobody_sees_is_taken_off_or_pointed_out(tmp_path: Path) -> None:
    """BOM, CR and line ends go, in files and variables; the rest is kept and named with its key, never quoted."""
    kept = {
        "space": ("s3cret ", "ends with a space"),
        "lead": ("\ts3cret", "begins with a tab"),
        "nbsp": ("s3\u00a0cret", "has a non-breaking space in it"),
        "zero": ("s3\u200bcret", "zero width space (U+200B)"),
        "control": ("s3\x07cret", "U+0007"),
        "inner": ("s3\rcret", "U+000D"),
        "quotes": ('"s3cret"', "quotes"),
    }
    gone = {"bom": b"\xef\xbb\xbfs3cret\r\n", "crlf": b"s3cret\r\n", "cr": b"s3cret\r"}
    for name, (value, _) in kept.items():
        (tmp_path / name).write_bytes(value.encode() + b"\n")
    for name, raw in gone.items():
        (tmp_path / name).write_bytes(raw)
    lines = "".join(
        f'  {name}: {{url: https://a/, sign: {{kind: hmac, secret: "${{file:{name}}}"}}}}\n' for name in (*kept, *gone)
    )
    basic = 'auth: {kind: basic, user: " bob", password: "${env:P}"}'
    text = f"version: 1\nplatforms:\n{lines}  env: {{url: https://a/, {basic}}}\n"
    config = loaded(tmp_path, text, {"P": "\ufeffpass\r"})
    signs = {name: getattr(each.sign, "secret", None) for name, each in config.platforms.items()}
    assert {signs[name] for name in gone} == {"s3cret"}
    assert {name: signs[name] for name in kept} == {name: value for name, (value, _) in kept.items()}
    assert getattr(config.platforms["env"].auth, "password", None) == "pass"
    found = {one.message.split(":")[0].split(" ")[0]: one.message for one in config.warnings if one.code == "W011"}
    for name, (_, words) in kept.items():
        assert words in found[f"platforms.{name}.sign.secret"], name
    assert "begins with a space" in found["platforms.env.auth.user"]
    assert not any("cret" in one.message.replace("secret", "") for one in config.warnings)


def test_utf_16_is_named(tmp_path: Path) -> None:
    """What an editor on Windows calls Unicode is refused with what to do."""
    (tmp_path / "wide").write_bytes("s3cret".encode("utf-16"))
    (found,) = platform(tmp_path, 'auth: {kind: bearer, token: "${file:wide}"}')
    assert (found.code, found.hint) == ("E040", "save it as UTF-8")


def test_known_secrets_have_the_forms_they_are_sent_in(tmp_path: Path) -> None:
    """Login pairs, the key within a whsec_ secret, a login ready to send, and the relay's own tokens."""
    write(tmp_path, "hunter22-password", "pw")
    config = loaded(
        tmp_path,
        """version: 1
ingest: {token: ingest-token-1}
admin: {users: [{name: ops, role: operator, token: ops-token-12}]}
platforms:
  a:
    url: https://a/
    auth: {kind: basic, user: bob, password: "${file:pw}"}
    sign: {kind: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}
  b: {url: https://b/, headers: {Authorization: "Basic Ym9iOmh1bnRlcjIyLXBhc3N3b3Jk"}}
  c: {url: https://c/, headers: {X-Key: "custom id=a1b2c3"}, connect: {proxy: "http://p/", proxy_auth: "us:pa55"}}
""",
    )
    both = {"ingest-token-1", "ops-token-12", "hunter22-password", "bob:hunter22-password"}
    assert both | {"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} <= config.secrets_of("a")
    assert both | {"Ym9iOmh1bnRlcjIyLXBhc3N3b3Jk"} <= config.secrets_of("b")
    assert {"a1b2c3", "custom id=a1b2c3", "pa55", "us:pa55"} <= config.secrets_of("c")
    assert "custom" not in config.secrets_of("c")


def test_users_are_told_apart_by_their_tokens(tmp_path: Path) -> None:
    """Two users with one token are refused, without showing it; one token for ingest and admin is pointed out."""
    users = "admin: {users: [{name: a, role: viewer, token: same-token}, {name: b, role: admin, token: same-token}]}"
    (found,) = problems(tmp_path, f"version: 1\n{users}\nplatforms: {{p: {{url: https://a/}}}}\n")
    assert (found.code, "same-token" in str(found)) == ("E052", False)
    assert "'b' has the token of 'a'" in found.message
    for token in ("token: same-token", "tokens: [{name: s, token: same-token}]"):
        one = f"ingest: {{{token}}}\nadmin: {{users: [{{name: a, role: viewer, token: same-token}}]}}"
        warned = loaded(tmp_path, f"version: 1\n{one}\nplatforms: {{p: {{url: https://a/}}}}\n").warnings
        assert "W012" in [each.code for each in warned]


@pytest.mark.parametrize("typed", ["*Zq7Xw9KpLm3Tn5Rv", "!Zq7Xw9KpLm3Tn5Rv x", "0x" + "f" * 5000])
def test_what_yaml_takes_for_its_own_is_not_quoted(tmp_path: Path, typed: str) -> None:
    """A secret without quotes that YAML reads as an alias, a tag or a number does not stand in the message."""
    for problem in problems(tmp_path, f"version: 1\nplatforms: {{p: {{url: https://a/, headers: {{X: {typed}}}}}}}\n"):
        assert typed.strip("*!").split(" ")[0] not in str(problem)


def test_problems_and_settings_cannot_drive_a_terminal(tmp_path: Path) -> None:
    """Characters that rewrite what a person sees are escaped in messages and in settings shown as YAML."""
    odd = r"x\x9b31m\u2028\u202e\u200b"  # YAML's own escapes
    text = f'version: 1\nplatforms: {{p: {{url: https://a/, headers: {{X-Version: "{odd}"}}, "{odd}": 1}}}}\n'
    said = "".join(map(str, problems(tmp_path, text)))
    assert not any(char in said for char in "\u009b\u2028\u202e\u200b")
    shown = as_yaml(effective(loaded(tmp_path, text.replace(f', "{odd}": 1', ""))), origin=False)
    assert not any(char in shown for char in "\u009b\u2028\u202e\u200b")


@cache
def _words_of_any_file() -> str:
    """Return what is shown of a file without a secret: "deny_priv" is told of each."""
    text = "version: 1\nplatforms: {a: {url: https://a/}}\n"
    return as_yaml(effective(loads(text, path="config.yaml", environ={})), origin=False)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\${}'), max_size=40))
@example("deny_priv")
def test_any_typed_secret_loads_hidden(secret: str) -> None:
    """Whatever a header's value is made of, the file loads or says why, and never shows it."""
    text = f'version: 1\nplatforms: {{a: {{url: https://a/, headers: {{X-Auth: "{secret}"}}}}}}\n'
    try:
        config = loads(text, path="config.yaml", environ={})
        told = as_yaml(effective(config), origin=False)
        known = config.secrets_of("a")
    except ConfigInvalid as invalid:
        told, known = str(invalid), frozenset({secret})
    assert len(secret) < 9 or secret in _words_of_any_file() or secret not in told
    assert not secret or secret in known


def test_sealing_keys_are_never_shown(tmp_path: Path) -> None:
    """Keys typed in, former ones and a KMS's token are hidden; what a reference names is shown as written."""
    key, former = "a" * 42 + "8=", "b" * 42 + "8="
    typed = loads(
        f"version: 1\nplatforms: {{a: {{url: https://a.example/}}}}\n"
        f'privacy: {{encrypt: {{key: "{key}", previous: ["{former}"]}}}}\n',
        path=tmp_path / "c.yaml",
    )
    kms = loads(
        "version: 1\nplatforms: {a: {url: https://a.example/}}\nprivacy: {encrypt: {key: {kms: vault, "
        "url: https://vault.example:8200, path: transit/relay, token: s.CanaryToken17}}}\n",
        path=tmp_path / "c.yaml",
    )
    shown = as_yaml(effective(typed), origin=False) + as_yaml(effective(kms), origin=False)
    assert [secret for secret in (key, former, "CanaryToken17") if secret in shown] == []
    assert "transit/relay" in shown


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql+psycopg://relay:hunter22@db/orders", True),
        ("postgresql+psycopg://relay:${env:T}@db/orders", False),
        ("postgresql+psycopg://relay@db/orders", False),
        ("sqlite:////srv/a:b@c.db", False),
    ],
)
def test_the_login_of_a_database_is_a_secret(tmp_path: Path, url: str, warned: bool) -> None:
    """One that is typed into the URL of a comparison is told as every other secret in the file."""
    config = loaded(
        tmp_path,
        f"""version: 1
platforms: {{a: {{url: https://a/}}}}
reconcile:
  a:
    order_center: {{sql: "{url}", query: select 1}}
    platform: {{file: b.csv}}
    columns: {{key: a, status: b, at: c}}
    order: [paid]
""",
        {"T": "t"},
    )
    assert [one.code for one in config.warnings] == (["W002"] if warned else [])
