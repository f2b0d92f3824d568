"""The configuration of `auth`, `sign` and `credentials`: what is read, what is refused, and what is never shown."""

from pathlib import Path

import pytest
from config_files import codes, loaded, platform, problems
from relay.config.diff import difference
from relay.config.effective import as_yaml, effective
from relay.config.schema.auth import OAuth2Auth, UseAuth
from relay.delivery.terms import compile_all

WECHAT = """version: 1
store: {token_key: "${env:KEY}"}
credentials:
  wechat:
    kind: oauth2
    token_url: https://api.weixin.qq.com/cgi-bin/token
    request: query
    client_id: wx123
    client_secret: "${env:APP_SECRET}"
    id_name: appid
    secret_name: secret
    params: {grant_type: client_credential}
    send: query
    early: 5m
  bystander: {kind: bearer, token: "${env:APP_SECRET}"}
platforms:
  a: {url: https://a.example/, auth: {use: wechat}}
  b:
    url: https://b.example/
    auth: {use: wechat}
    sign: {kind: standard-webhooks, secret: ["${env:WHSEC}", "${env:WHSEC}"]}
  c: {url: https://c.example/, auth: {kind: basic, user: ck, password: typed-password}}
"""
ENVIRON = {"KEY": "ab" * 32, "APP_SECRET": "app-secret-value", "WHSEC": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


def test_platforms_share_a_credential(tmp_path: Path) -> None:
    """`use` stands for the credential of that name; its own defaults are filled in; a signer is compiled."""
    config = loaded(tmp_path, WECHAT, ENVIRON)
    shared = config.credentials["wechat"]
    assert isinstance(shared, OAuth2Auth)
    assert (shared.early, shared.sent_as, shared.answer.access) == (300.0, "access_token", "access_token")
    assert isinstance(config.platforms["a"].auth, UseAuth)
    terms = {each.platform: each for each in compile_all(config)}
    assert terms["a"].auth is terms["b"].auth is shared
    assert [terms[name].credential for name in "abc"] == ["wechat", "wechat", "platform:c"]
    assert terms["b"].signer is not None
    assert config.store.token_key == bytes.fromhex("ab" * 32)
    assert [(one.code, one.line) for one in config.warnings] == [("W008", 15), ("W002", 22)]


def test_secrets_of_credentials_are_masked(tmp_path: Path) -> None:
    """Shown settings hold references and masks, but the settings about secrets stay readable."""
    config = loaded(tmp_path, WECHAT, ENVIRON)
    shown = as_yaml(effective(config), origin=False)
    for readable in ("secret_name: secret", "token_url: https://api", "appid", "grant_type: client_credential"):
        assert readable in shown
    assert "client_secret: ${env:APP_SECRET}" in shown
    assert "password: '***'" in shown
    everything = shown + repr(config.credentials) + repr(compile_all(config))
    for secret in (*ENVIRON.values(), "typed-password"):
        assert secret not in everything


def test_a_changed_secret_changes_the_platforms_terms(tmp_path: Path) -> None:
    """A reload with another secret of a shared credential touches those that use it, and only says that it differs."""
    old = loaded(tmp_path, WECHAT, ENVIRON)
    new = loaded(tmp_path, WECHAT, {**ENVIRON, "APP_SECRET": "another"})
    before, after = compile_all(old), compile_all(new)
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    assert ("credentials",) in difference(old, new).hidden


def test_a_platform_replaces_the_default_of_another_kind(tmp_path: Path) -> None:
    """Of the same kind keys are merged; another kind, or `use`, takes nothing over."""
    config = loaded(
        tmp_path,
        """version: 1
credentials: {c: {kind: query, token: t}}
defaults: {auth: {kind: basic, user: u, password: p}, sign: {kind: hmac, secret: s, header: X-Sig}}
platforms:
  a: {url: https://a/, auth: {password: q}, sign: {prefix: v1=}}
  b: {url: https://b/, auth: {kind: bearer, token: t}, sign: {kind: sorted, secret: z}}
  d: {url: https://d/, auth: {use: c}}
""",
    )
    auths = {name: type(each.auth).__name__ for name, each in config.platforms.items()}
    assert auths == {"a": "BasicAuth", "b": "BearerAuth", "d": "UseAuth"}
    assert config.platforms["a"].auth.user == "u"  # type: ignore[union-attr]
    assert config.platforms["a"].sign.header == "X-Sig"  # type: ignore[union-attr]


ED25519 = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"


@pytest.mark.parametrize(
    ("settings", "col", "code", "hint"),
    [
        ("auth: 5", 11, "E013", "kinds are bearer, basic, query, oauth2"),
        ("auth: {token: t}", 11, "E011", "kinds are bearer, basic, query, oauth2 or {use: NAME}"),
        ("auth: {kind: baerer, token: t}", 11, "E015", "did you mean 'bearer'?"),
        ("auth: {kind: bearer}", 5, "E011", ""),
        ("auth: {kind: bearer, token: ''}", 33, "E031", ""),
        ("auth: {kind: bearer, tokn: t, token: t}", 26, "E010", "did you mean 'token'?"),
        ("auth: {kind: basic, user: 'a:b', password: p}", 31, "E033", "RFC 7617 ends the user at the first one"),
        ("auth: {use: gone}", 17, "E055", "add it under `credentials:`"),
        ("auth: {kind: bearer, token: t}\nheaders: {authorization: x}", 11, "E051", "remove one of them"),
        (
            "auth: {kind: oauth2, token_url: https://t/, client_id: c, grant: refresh_token}",
            11,
            "E033",
            "add refresh_token: ${file:...}",
        ),
        (
            "auth: {kind: oauth2, token_url: https://t/, client_id: c, client_secret: s, refresh_token: r}",
            11,
            "E033",
            "write grant: refresh_token",
        ),
        ("auth: {kind: oauth2, token_url: t, client_id: c, client_secret: s}", 37, "E024", "did you mean https://t?"),
        (
            "auth: {kind: oauth2, token_url: https://t/, client_id: c, client_secret: s, grant: password}",
            88,
            "E015",
            "choices are client_credentials, refresh_token",
        ),
        ("auth: {kind: oauth2, token_url: https://t/, client_id: c}", 11, "E033", "add client_secret: ${file:...}"),
        (
            "auth: {kind: oauth2, token_url: https://t/, client_id: c, client_secret: s, answer: {access: 'a['}}",
            101,
            "E027",
            "see https://jmespath.org",
        ),
        ("sign: {kind: standard-webhooks, secret: whsec_%}", 11, "E032", ""),
        ("sign: {kind: standard-webhooks, secret: []}", 11, "E032", ""),
        ("sign: {kind: hmac, secret: s, over: '{bdy}'}", 11, "E032", ""),
        ("sign: {kind: hmac, secret: s, digest: sha3}", 43, "E015", "did you mean 'sha1'?"),
        ("sign: {kind: hmac, secret: s, header: 'a b'}", 43, "E029", "write a name such as Retry-After"),
        ("sign: {kind: sorted, secret: s, fields: none}", 45, "E015", "write fields: all, or a list of names"),
        ("sign: {kind: sorted, secret: s, pre: '{action}'}", 11, "E032", ""),
        ("sign: {kind: sorted, secret: s, timestamp: {format: iso}}", 11, "E032", ""),
        ("sign: {kind: rfc9421, key_id: k, algorithm: ed25519, secret: s}", 11, "E032", ""),
        (f"sign: {{kind: rfc9421, key_id: k, algorithm: ed25519, private_key: {ED25519}}}", 11, "E032", ""),
        (
            "sign: {kind: rfc9421, key_id: k, algorithm: hmac-sha256, secret: s, components: [x-shop]}",
            85,
            "E051",
            "set it under headers, or leave it out",
        ),
    ],
)
def test_mistakes(tmp_path: Path, settings: str, col: int, code: str, hint: str) -> None:
    """Each mistake is one problem at its place, with what to write."""
    (found,) = platform(tmp_path, settings)
    assert (found.line, found.col, found.code, found.hint) == (5, col, code, hint)


def test_mistakes_are_all_told(tmp_path: Path) -> None:
    """A wrong credential hides neither another problem nor a contradiction elsewhere."""
    text = """version: 1
store: {token_key: short}
credentials: {c: {kind: bearer}, d: {kind: 5}}
platforms:
  a: {url: https://a/, quotas: [gone], auth: {use: c}, sign: {kind: hmac}}
"""
    assert codes(tmp_path, text) == [
        (2, 20, "E031"), (3, 15, "E011"), (3, 37, "E015"), (5, 33, "E050"), (5, 56, "E011"),
    ]  # fmt: skip


def test_problems_do_not_quote_secrets(tmp_path: Path) -> None:
    """A signature setting that cannot work is explained without what its reference holds."""
    found = problems(
        tmp_path,
        'version: 1\nplatforms: {a: {url: https://a/, sign: {kind: standard-webhooks, secret: "${env:S}"}}}\n',
        {"S": "not-base64-at-all!"},
    )
    assert [one.message for one in found] == ["platforms.a.sign: the secret is not whsec_ followed by base64"]


def test_warnings(tmp_path: Path) -> None:
    """Secrets over http, refresh tokens that a restart would lose and credentials nobody uses are worth knowing."""
    config = loaded(
        tmp_path,
        """version: 1
credentials:
  unused: {kind: bearer, token: "${env:T}"}
platforms:
  a:
    url: http://a/
    auth: {kind: oauth2, grant: refresh_token, token_url: http://t/, client_id: c, refresh_token: "${env:T}"}
""",
        {"T": "t"},
    )
    assert [(one.line, one.code) for one in config.warnings] == [(3, "W008"), (6, "W004"), (7, "W007"), (7, "W004")]


def test_a_warning_about_a_credential_with_references_says_what_it_is(tmp_path: Path) -> None:
    """That a secret in it is a reference does not take the words away: they quote none of it."""
    config = loaded(
        tmp_path,
        """\
version: 1
platforms:
  a:
    url: https://a.example/
    auth:
      {kind: oauth2, grant: refresh_token, token_url: "https://a.example/t", client_id: c, refresh_token: "${env:T}"}
""",
        {"T": "t-o-k-e-n"},
    )
    (warning,) = config.warnings
    assert (warning.code, warning.hint) == ("W007", "set store.token_key")
    assert warning.message.startswith("platforms.a.auth: a new refresh token")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("url: 'https://bob:x@a/'\nauth: {kind: bearer, token: t}", "Authorization is also set by the login"),
        ("url: 'https://bob:x@a/'\nheaders: {authorization: t}", "a login in it, and headers an Authorization"),
        ("url: 'https://bob@a/'\nsign: {kind: hmac, secret: s, header: Authorization}", "also set by the login in url"),
        ("auth: {kind: bearer, token: t}\nsign: {kind: hmac, secret: s, header: authorization}", "also set under auth"),
        ("headers: {X-Signature: x}\nsign: {kind: hmac, secret: s}", "X-Signature is also set under headers"),
        ("sign: {kind: hmac, secret: s, header: Idempotency-Key}", "also set by the relay itself"),
        ("url: 'https://a/?sign=1'\nsign: {kind: sorted, secret: s}", "the parameter sign is also set under url"),
        ("auth: {kind: query, name: sign, token: t}\nsign: {kind: sorted, secret: s}", "also set under auth"),
        ("url: 'https://a/?t=1'\nauth: {kind: query, name: t, token: t}", "the parameter t is also set under url"),
        ("sign: {kind: sorted, secret: s, to: form}", "only a form body can take form fields"),
        (
            "envelope: {kind: form, item: {a: a}}\nsign: {kind: sorted, secret: s, to: form}\n"
            "confirm: {url: 'https://a/', method: POST, body: {a: a}, classify: [{status: 200, as: ok}]}",
            "the body of platforms.a.confirm is none",
        ),
        ("sign: {kind: sorted, secret: s, to: header, name: 'a b'}", "cannot be sent"),
        ("sign: {kind: sorted, secret: s, to: header, params: {x: '{body}'}}", "cannot be sent"),
        ('sign: {kind: hmac, secret: s, prefix: "a\\nb"}', "cannot be sent"),
        ("sign: {kind: hmac, secret: s, timestamp_header: x-signature}", "are the same"),
        ("sign: {kind: sorted, secret: s, params: {sign: x}}", "share the name sign"),
        (
            "auth: {kind: bearer, token: t}\nconfirm: {url: 'https://u:p@a/', classify: [{status: 200, as: ok}]}",
            "login",
        ),
        (
            "auth: {kind: bearer, token: t}\n"
            "confirm: {url: 'https://a/', headers: {Authorization: x}, classify: [{status: 200, as: ok}]}",
            "Authorization is also set under headers",
        ),
        ("headers: {Idempotency-Key: x}", "sets the header Idempotency-Key itself"),
        ("connect: {proxy: 'http://u:p@p/', proxy_auth: 'a:b'}", "proxy_auth is another"),
        ("connect: {proxy: 'http://{host}/'}", "nothing is filled in"),
        ("auth: {kind: oauth2, token_url: 'https://{h}/', client_id: c, client_secret: s}", "nothing is filled in"),
        (
            "auth: {kind: oauth2, token_url: 'https://u:p@t/', client_id: c, client_secret: s, client_auth: basic}",
            "client_auth: basic is another",
        ),
    ],
)
def test_what_would_fail_with_every_request_is_found(tmp_path: Path, settings: str, words: str) -> None:
    """Two values for one header or parameter, a body of the wrong kind, what HTTP cannot carry: errors of the check."""
    body = "".join(f"    {line}\n" for line in settings.splitlines())
    url = "" if "\n    url:" in f"\n{body}" else "    url: https://a.example/\n"
    found = problems(tmp_path, f"version: 1\nplatforms:\n  a:\n{url}{body}")
    assert len(found) == 1, found
    assert words in found[0].message


def test_what_goes_together_is_accepted(tmp_path: Path) -> None:
    """A login in the URL alone, a Content-Type of one's own, a token in the query beside a signature in it."""
    text = """version: 1
platforms:
  a: {url: "https://bob:x@a/", headers: {content-type: application/json; charset=utf-8}}
  b: {url: "https://a/?v=1", auth: {kind: query, token: t}, sign: {kind: sorted, secret: s, params: {app: "1"}}}
  c: {url: "https://a/", envelope: {kind: form, item: {a: a}}, sign: {kind: sorted, secret: s, to: form}}
"""
    terms = {each.platform: each for each in compile_all(loaded(tmp_path, text))}
    assert terms["a"].headers == {"Content-Type": "application/json; charset=utf-8"}
