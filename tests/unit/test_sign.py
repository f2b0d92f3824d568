"""Signatures of real platforms: the recorded vectors, the public verifier, and what each covers."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from relay.core.clock import wall_s
from relay.core.secret import NO_SECRET, Secret
from relay.wire.signing.digest import SecretDigest, key_bytes
from relay.wire.signing.draft import Draft, fields_of, ready_url
from relay.wire.signing.header import HeaderHmac, StandardWebhooks
from relay.wire.signing.sorted_parameters import ParameterText, SortedDigest, SortedSigner, SortedTerms
from relay.wire.signing.stamp import ClockOffset, Stamp
from relay.wire.signing.template import Template
from standardwebhooks import Webhook, WebhookVerificationError

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "signatures.json").read_text("utf-8"))
FORM = "application/x-www-form-urlencoded"


def sorted_digest(
    secret: str, *, value: str = "raw", digest: Any = "md5", out: Any = "HEX", drop_empty: bool = True, **texts: Any
) -> SortedDigest:
    """A digest of sorted parameters by the words of the configuration."""
    written = {name: texts.pop(name) for name in ("pair", "join") if name in texts}
    text = ParameterText(**written, json_values=value == "json", drop_empty=drop_empty)
    return SortedDigest(SecretDigest(digest, secret, out=out), text, **texts)


def draft(
    body: bytes = b"", *, url: str = "https://api.example/a/b?b=2&a=1", content_type: str = "application/json"
) -> Draft:
    """A request before it is signed."""
    return Draft("bat-1", "POST", url, {"Content-Type": content_type}, body, Secret("tok"))


@pytest.mark.parametrize("vector", VECTORS["sorted"], ids=lambda vector: vector["name"])
def test_sorted_vectors(vector: dict[str, Any]) -> None:
    """Each platform's recorded signature comes out of the one function, by its settings alone."""
    extra = {name: vector[name] for name in ("path", "action", "token") if name in vector}
    made = sorted_digest(
        vector["secret"],
        pair=vector["pair"],
        join=vector["join"],
        pre=vector["pre"],
        post=vector["post"],
        value=vector.get("value", "raw"),
        digest=vector["digest"],
        out=vector["out"],
        names=tuple(extra),
    )
    wrap = {"secret": vector["secret"].encode(), **{name: text.encode() for name, text in extra.items()}}
    assert made.of(vector["params"], wrap) == vector["expect"]


@pytest.mark.parametrize("vector", VECTORS["sorted"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("to", ["query", "form", "header"])
def test_sorted_vectors_in_a_request(vector: dict[str, Any], to: Any) -> None:
    """The same signatures stand in a request whose parameters come from query, form and settings."""
    params = {name: str(value) for name, value in vector["params"].items()}
    stamped = vector.get("value") == "json"  # Ele.me's timestamp is a number
    stamp = int(params.pop("timestamp")) if stamped else 0
    names = sorted(params)
    own, form, query = names[::3], names[1::3], names[2::3]
    url = "https://api.example" + vector.get("path", "/x") if vector.get("path", "/")[0] == "/" else "https://h/x"
    request = draft(url=url, content_type=FORM).with_query((name, params[name]) for name in query)
    request = request.with_form((name, params[name]) for name in form)
    signer = SortedSigner(
        digest=sorted_digest(
            vector["secret"],
            names=[name for name in ("path", "action", "token") if name in vector],
            **{
                name: vector[name]
                for name in ("pair", "join", "pre", "post", "value", "digest", "out")
                if name in vector
            },
        ),
        terms=SortedTerms(
            to=to,
            name="sign",
            params={name: params[name].replace("{", "{{").replace("}", "}}") for name in own},
            vars={name: vector[name] for name in ("path", "action", "token") if name in vector},
            timestamp_name="timestamp" if stamped else None,
        ),
    )
    signed = signer.sign(request, wall=stamp + 0.9)
    found = {
        "query": dict(fields_of(signed.query)).get("sign"),
        "form": dict(fields_of(signed.body.decode())).get("sign"),
        "header": signed.header("sign"),
    }
    assert {place: value for place, value in found.items() if value} == {to: vector["expect"]}


def test_doudian_signs_the_body_as_a_parameter_it_does_not_send() -> None:
    """Doudian's vector with the payload as JSON body: signed under param_json, sent as it is; the token is left out."""
    vector = next(one for one in VECTORS["sorted"] if one["name"] == "Doudian")
    fixed = vector["params"]
    signer = SortedSigner(
        digest=sorted_digest("secret", digest="hmac-sha256", out="hex"),
        terms=SortedTerms(
            fields=frozenset(fixed),
            params={"app_key": fixed["app_key"], "method": fixed["method"], "v": "2", "sign_method": "hmac-sha256"},
            signed_only={"param_json": "{body}"},
            timestamp_name="timestamp",
            stamp=Stamp("%Y-%m-%d %H:%M:%S", tz_s=8 * 3600.0),
        ),
    )
    body = fixed["param_json"].encode()
    signed = signer.sign(draft(body, url="https://h/product/detail?access_token=t"), wall=1735758245.0)
    sent = dict(fields_of(signed.query))
    assert signed.body == body
    assert sent["timestamp"] == fixed["timestamp"]
    assert sent["sign"] == vector["expect"]
    assert "param_json" not in sent


def test_dingtalk_is_a_sorted_signature_of_nothing() -> None:
    """DingTalk keys HMAC-SHA256 with the secret over timestamp and secret: no parameters, all in `pre`."""
    signer = SortedSigner(
        digest=sorted_digest("SEC1", pre="{timestamp}\n{secret}", post="", digest="hmac-sha256", out="base64"),
        terms=SortedTerms(fields=frozenset(), timestamp_name="timestamp", stamp=Stamp("ms")),
    )
    signed = signer.sign(draft(b"{}", url="https://oapi.example/robot/send?access_token=t"), wall=1700000000.25)
    raw = hmac.digest(b"SEC1", b"1700000000250\nSEC1", "sha256")
    assert parse_qs(urlsplit(signed.url).query) == {
        "access_token": ["t"],
        "timestamp": ["1700000000250"],
        "sign": [base64.b64encode(raw).decode()],
    }


def test_empty_values_and_repeats_of_the_signature() -> None:
    """Empty parameters are sent but not signed unless asked for; an old signature is replaced, not signed."""
    terms = SortedTerms(params={"x": "1"})
    request = draft(url="https://h/p?empty=&sign=old&a=%E4%B8%AD+1")
    plain = SortedSigner(digest=sorted_digest("s"), terms=terms).sign(request, wall=0)
    whole = SortedSigner(digest=sorted_digest("s", drop_empty=False), terms=terms)
    assert fields_of(plain.query) == [("empty", ""), ("a", "中 1"), ("x", "1"), ("sign", _md5("sa中 1x1s"))]
    assert dict(fields_of(whole.sign(request, wall=0).query))["sign"] == _md5("sa中 1emptyx1s")


def test_standard_webhooks_vector() -> None:
    """The specification's own example."""
    (vector,) = VECTORS["standard_webhooks"]
    request = Draft(vector["id"], "POST", "https://h/", {}, vector["body"].encode())
    for secret in (vector["secret"], "whsec_" + vector["secret"]):
        signed = StandardWebhooks([secret]).sign(request, wall=vector["timestamp"] + 0.99)
        assert signed.headers["webhook-signature"] == vector["expect"]
        assert signed.headers["webhook-id"] == vector["id"]
        assert signed.headers["webhook-timestamp"] == str(vector["timestamp"])


def test_standard_webhooks_against_the_public_package() -> None:
    """The public verifier takes each signature of a rotation, and refuses a changed body."""
    old, new = ("whsec_" + base64.b64encode(bytes([seed]) * 32).decode() for seed in (1, 2))
    body = json.dumps([{"order_id": "1", "名": "值"}]).encode()
    signed = StandardWebhooks([new, old]).sign(draft(body), wall=wall_s())
    for secret in (old, new):
        assert Webhook(secret).verify(signed.body, dict(signed.headers)) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body + b" ", dict(signed.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(bytes(32)).decode()).verify(body, dict(signed.headers))


def test_a_resend_is_signed_anew() -> None:
    """The same batch later: the id stays, timestamp and signature are fresh."""
    signer = StandardWebhooks(["whsec_" + base64.b64encode(bytes(32)).decode()])
    first, second = (signer.sign(draft(b"[]"), wall=wall).headers for wall in (100.0, 160.0))
    assert first["webhook-id"] == second["webhook-id"] == "bat-1"
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("100", "160")
    assert first["webhook-signature"] != second["webhook-signature"]


def test_header_hmac_covers_what_it_names() -> None:
    """Timestamp and exact body by default; method, path and query where named; prefix and base64 as set."""
    body = b"\x1f\x8b binary {timestamp} \xff"
    usual = HeaderHmac(SecretDigest("hmac-sha256", "s"), prefix="sha256=").sign(draft(body), wall=7.9)
    assert usual.headers["X-Timestamp"] == "7"
    assert usual.headers["X-Signature"] == "sha256=" + hmac.new(b"s", b"7." + body, "sha256").hexdigest()

    key = base64.b64encode(b"\x00key").decode()
    other = HeaderHmac(
        SecretDigest("hmac-sha1", key, encoding="base64", out="base64"),
        over="{method}\n{authority}{path}?{query}\n{id}\n{token}",
        header="Sign",
        timestamp_header=None,
    ).sign(draft(body), wall=7)
    signed = b"POST\napi.example/a/b?b=2&a=1\nbat-1\ntok"
    assert other.headers["Sign"] == base64.b64encode(hmac.digest(b"\x00key", signed, "sha1")).decode()
    assert "X-Timestamp" not in other.headers


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StandardWebhooks([]), "no secret"),
        (lambda: StandardWebhooks(["whsec_?"]), "not whsec_"),
        (lambda: StandardWebhooks(["whsk_AAAA"]), "asymmetric"),
        (lambda: HeaderHmac(SecretDigest("hmac-sha256", "s"), over="{tiemstamp}"), "{tiemstamp} is not known here"),
        (lambda: HeaderHmac(SecretDigest("hmac-sha256", "s"), over="{body"), "brace"),
        (lambda: HeaderHmac(SecretDigest("hmac-sha256", "s"), over="{body!r}"), "not known"),
        (lambda: SecretDigest("hmac-sha256", "zz", encoding="hex"), "not hex"),
        (lambda: SecretDigest("hmac-sha256", "a*", encoding="base64"), "not base64"),
        (lambda: sorted_digest("s", pair="{k}{w}"), "{w} is not known"),
        (lambda: Stamp("iso"), "timestamp format"),
    ],
)
def test_what_could_not_sign_is_refused_at_once(make: Any, words: str) -> None:
    """A mistake is an error where the signer is made, and says nothing of the secret."""
    with pytest.raises(ValueError, match=words.replace("{", r"\{")):
        make()


def test_templates_fill_once() -> None:
    """What is filled in is not looked into again, and doubled braces are literal."""
    assert Template("{{{a}}}-{b}", ("a", "b")).fill({"a": b"{b}", "b": b"1"}) == b"{{b}}-1"


def test_keys_may_be_encoded() -> None:
    """A secret is its text, or what base64 (padded or not, URL-safe or not) and hex stand for."""
    assert key_bytes("a+/=", "text") == b"a+/="
    assert key_bytes("-_8", "base64") == key_bytes("+/8=", "base64") == b"\xfb\xff"
    assert key_bytes("00FF", "hex") == b"\x00\xff"


def test_drafts_change_by_replacing() -> None:
    """Headers replace in any case, query and form fields by name; the rest keeps its bytes; nothing is shown."""
    request = draft(b"x=%41&y", url="https://u@H.example:443/p?A=%e4&b=1", content_type=FORM + "; charset=utf-8")
    assert request.with_headers([("content-TYPE", "a/b")]).headers == {"content-TYPE": "a/b"}
    assert request.with_query([("b", "2 ü&")]).url == "https://u@H.example:443/p?A=%e4&b=2%20%C3%BC%26"
    assert request.with_form([("y", "z=")]).body == b"x=%41&y=z%3D"
    assert request.authority == "h.example"
    assert draft(url="http://h:443/").authority == "h:443"
    with pytest.raises(ValueError, match="form"):
        draft(b"{}").with_form([("a", "b")])
    assert repr(request) == "Draft(id='bat-1', method='POST', token=Secret(***))"


def test_urls_are_made_ready_for_the_wire() -> None:
    """What is signed is what is sent: ASCII, with a path, host names in their ASCII form."""
    assert ready_url("https://h") == "https://h/"
    assert ready_url("https://h?a=b") == "https://h/?a=b"
    assert ready_url("https://h/%41?x=[1]") == "https://h/%41?x=[1]"
    assert ready_url("https://bücher.example/路?q=ü") == "https://xn--bcher-kva.example/%E8%B7%AF?q=%C3%BC"


def test_secrets_are_never_shown() -> None:
    """No way of writing a secret out shows it, short of asking for it."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    assert secret != "hunter2"
    assert secret.reveal() == "hunter2"
    assert not NO_SECRET


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest().upper()


DATE = "Tue, 20 Apr 2021 02:07:55 GMT"  # 1618884475


AHEAD = 1618883875.5  # our clock when the platform's shows DATE, ten minutes on


def refuse(offset: ClockOffset, signed_s: float, headers: dict[str, str] | None = None, *, at: float = AHEAD) -> bool:
    """A signature is refused by an answer that took no time."""
    return offset.refused({"date": DATE} if headers is None else headers, signed_s, sent_wall=at, answered_wall=at)


def test_clock_offset_is_adopted_when_a_signature_is_refused() -> None:
    """Ten minutes ahead by the refusal's own Date: tried at once, kept when accepted; nothing is learned before."""
    offset = ClockOffset()
    offset.accepted(0.0)
    assert offset.seconds == 0.0
    assert refuse(offset, 0.0)
    assert offset.seconds == pytest.approx(600.0, abs=1)
    adopted_s = offset.seconds
    offset.accepted(adopted_s)
    assert not refuse(offset, adopted_s)  # the same again: it is not the clock
    assert offset.seconds == adopted_s
    assert refuse(offset, adopted_s, at=1618884475.5)  # our clock was set meanwhile
    assert offset.seconds == 0.0


def test_clock_offset_is_dropped_when_it_does_not_help() -> None:
    """A Date eight hours off is tried once and dropped; what was under way with it goes again with our clock."""
    offset = ClockOffset()
    assert refuse(offset, 0.0, at=AHEAD - 28800)
    wrong_s = offset.seconds
    assert wrong_s == pytest.approx(29400.0, abs=1)
    assert refuse(offset, 0.0)  # under way when it was adopted: signed anew
    assert not refuse(offset, wrong_s)
    assert offset.seconds == 0.0
    assert refuse(offset, wrong_s)
    assert offset.seconds == 0.0


def test_accepted_signature_proves_its_clock() -> None:
    """One that was under way, accepted with our own clock, ends the trial of another."""
    offset = ClockOffset()
    assert refuse(offset, 0.0)
    offset.accepted(0.0)
    assert offset.seconds == 0.0


@pytest.mark.parametrize(
    ("headers", "sent", "answered"),
    [
        ({"date": DATE}, 1618884477.0, 1618884477.5),  # a second or two
        ({"date": DATE, "age": "3600"}, 1618880000.0, 1618880000.0),  # from a cache
        ({"date": DATE}, 1618880000.0, 1618880011.0),  # took too long
        ({"date": DATE}, 1618880001.0, 1618880000.0),  # our clock was set meanwhile
        ({"date": DATE}, 1518880000.0, 1518880000.0),  # years
        ({"date": f"{DATE}, Tue, 20 Apr 2021 10:07:55 GMT"}, 1618880000.0, 1618880000.0),  # two that disagree
        ({"date": DATE.replace("GMT", "CST")}, 1618880000.0, 1618880000.0),
        ({"date": DATE.removesuffix(" GMT")}, 1618880000.0, 1618880000.0),
        ({"date": "soon"}, 0.0, 0.0),
        ({}, 0.0, 0.0),
    ],
)
def test_dates_that_tell_nothing(headers: dict[str, str], sent: float, answered: float) -> None:
    """No offset is adopted from a Date that says nothing, or nothing that matters."""
    offset = ClockOffset()
    assert not offset.refused(headers, 0.0, sent_wall=sent, answered_wall=answered)
    assert offset.seconds == 0.0


def test_stamps() -> None:
    """Seconds, milliseconds and a pattern at an offset from UTC."""
    assert Stamp("s").write(1735758245.9) == "1735758245"
    assert Stamp("ms").write(1735758245.25) == "1735758245250"
    assert Stamp("%Y-%m-%d %H:%M:%S", tz_s=8 * 3600).write(1735758245.9) == "2025-01-02 03:04:05"
