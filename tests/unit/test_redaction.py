"""Known secrets are taken out of what others say, in whatever form a page repeats them."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay.privacy.masking import HIDDEN
from relay.privacy.redaction import Redactor

PLAIN = "Zq7Xw9KpLm3Tn5Rv"
ODD = "p@ss \"w/o+<rd>&'x\\y"
CHINESE = "abc\u5bc6\u94a5-key"
SECRETS = (PLAIN, ODD, CHINESE, "user:pa+ss/=word", "-----BEGIN-----\nMIIEvQ\n-----END-----")


def forms(secret: str) -> list[str]:
    """The ways a page may write ``secret``."""
    ours = json.dumps(secret)[1:-1]
    encoded = base64.b64encode(secret.encode()).decode()
    return [
        *(secret, encoded, encoded.rstrip("="), base64.urlsafe_b64encode(secret.encode()).decode(), quote(encoded, "")),
        *(quote(secret, ""), quote(secret), quote_plus(secret), quote(quote(secret, ""), "")),
        *(ours, json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(ours)[1:-1], ours.replace("/", "\\/")),
        *(html.escape(secret), html.escape(secret, quote=False), html.escape(html.escape(secret))),
        secret.replace("\n", " "),
        *(
            secret.upper(),
            secret.lower(),
            secret.swapcase(),
            quote(secret.upper(), ""),
            json.dumps(secret.upper())[1:-1],
        ),
        *(secret.encode().hex(), secret.encode().hex().upper()),
    ]


@pytest.mark.parametrize("secret", SECRETS)
def test_every_form_is_hidden(secret: str) -> None:
    """As it is, in base64, URL-encoded, JSON- and HTML-escaped, once and twice over."""
    for form in forms(secret):
        assert Redactor([secret]).text(f"said: {form} .") == f"said: {HIDDEN} .", form


@pytest.mark.parametrize("secret", SECRETS)
def test_a_cut_leaves_no_half_of_it(secret: str) -> None:
    """Where the text ends within a secret, what is there of it goes too."""
    for form in forms(secret):
        for length in range(12, len(form)):
            assert form[:12] not in Redactor([secret]).text(f"said: {form[:length]}"), (form, length)


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "Authorization: Bearer "])
def test_within_a_longer_text_in_base64(before: str) -> None:
    """A page that encodes all it got as a whole still shows nothing but the bytes around the secret."""
    told = base64.b64encode(f"{before}{PLAIN}\r\nHost: a".encode()).decode()
    shown = Redactor([PLAIN]).text(told).replace(HIDDEN, "")
    assert not any(
        PLAIN[at : at + 4].encode() in base64.b64decode(shown[skip:] + "===") for at in range(12) for skip in (0,)
    )
    assert len(shown) <= len(told) - 18


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\n    ", "\\n", "\\r\\n", "\\\\n", "%0D%0A", "<br>", "<br />"])
@pytest.mark.parametrize("width", [4, 7, 16])
def test_broken_over_lines(end: str, width: int) -> None:
    """MIME breaks base64 over lines, pages break anything: the pieces go, what stands around them stays."""
    for secret in (PLAIN, "user:pa+ss/=word"):
        encoded = base64.b64encode(secret.encode()).decode()
        for form in (secret, secret.upper(), encoded, secret.encode().hex()):
            broken = end.join(form[at : at + width] for at in range(0, len(form), width))
            shown = Redactor([secret]).text(f"said:{end}{broken}{end}at 10:00{end}and {broken} .")
            assert shown == f"said:{end}{HIDDEN}{end}at 10:00{end}and {HIDDEN} .", (form, broken)


def test_wrapped_base64_of_a_whole_request() -> None:
    """Headers that were encoded as a whole and wrapped after 76 characters give nothing of the token away."""
    head = f"Host: shop.example\r\nUser-Agent: callback-relay/0.1\r\nAuthorization: Bearer {PLAIN}\r\nAccept: */*\r\n"
    for shift in range(76):
        told = base64.encodebytes((b"x" * shift) + head.encode()).decode()
        parts = Redactor([PLAIN]).text(told).split(HIDDEN)
        assert len(parts) == 2
        assert all(
            PLAIN[at : at + 4].encode() not in base64.b64decode(part + "==") for part in parts for at in range(12)
        )


def test_lines_that_hold_no_secret_stay_as_they_are() -> None:
    """Line breaks and case are kept where nothing is hidden, and around what is."""
    page = "<P>Zq7X\r\n  is no token.\r\nİstanbul: ZQ7XW9KPLM3TN5RV\r\nEnd Of It</P>"
    assert Redactor([PLAIN]).text(page) == page.replace(PLAIN.upper(), HIDDEN)


def test_short_secrets_are_left() -> None:
    """What is shorter than four characters would tear words apart."""
    assert Redactor(["abc"]).text("abcdef") == "abcdef"


def test_tokens_are_learned_and_forgotten() -> None:
    """The tokens in use lately are known, also by who asks through another redactor; old ones go."""
    source = Redactor()
    platform = Redactor(["fixed-secret"], of=source)
    for number in range(20):
        source.learn(f"token-{number:04}")
    shown = platform.text("token-0000 token-0019 token-0018 fixed-secret")
    assert shown == "token-0000 *** *** ***"


@given(st.text(min_size=4, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_nothing_raises_and_nothing_stays(secret: str, before: str, after: str) -> None:
    """Whatever a secret is made of, it is not in the text afterwards."""
    secret = "".join(c for c in secret if c.isprintable() and c != "*")
    if len(secret) >= 4 and secret.strip() == secret:
        assert secret not in Redactor([secret]).text(f"{before}{secret}{after}")
