"""The robots' presets: signatures as their makers publish them, and errors that come with a 200."""

import base64
import hmac
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from relay.config.reading.presets import preset
from relay.config.schema.platform import PlatformSection
from relay.core.model import Outcome
from relay.delivery.terms import compile_terms
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.signing.draft import Draft

SECRET = "SECdemo"
MESSAGE = b'{"msgtype":"text","text":{"content":"\xe5\x91\x8a"}}'


def robot(name: str) -> PlatformSection:
    """Return the platform that a preset makes with a URL and, where it signs, a secret."""
    stated = dict(preset(name).platform)
    if "sign" in stated:
        stated["sign"] = {**stated["sign"], "secret": SECRET}
    return PlatformSection.model_validate({**stated, "url": "https://robot.example/send?access_token=abc"})


def signed(name: str, wall: float) -> Draft:
    """Return a message as the preset signs it."""
    signer = compile_terms("a", robot(name)).signer
    assert signer is not None
    return signer.sign(Draft("b1", "POST", robot(name).url, {"Content-Type": "application/json"}, MESSAGE), wall=wall)


def test_dingtalk_is_signed_in_the_query() -> None:
    """HMAC-SHA256 with the secret over milliseconds, line feed and secret; the token stays in the query."""
    sent = signed("dingtalk-robot", 1_599_360_473.25)
    query = parse_qs(urlsplit(sent.url).query)
    wanted = hmac.digest(SECRET.encode(), f"1599360473250\n{SECRET}".encode(), "sha256")
    assert query == {
        "access_token": ["abc"],
        "timestamp": ["1599360473250"],
        "sign": [base64.b64encode(wanted).decode()],
    }
    assert sent.body == MESSAGE
    assert "+" not in urlsplit(sent.url).query.partition("sign=")[2], "a plus would be read as a space"


def test_feishu_is_signed_in_the_body() -> None:
    """HMAC-SHA256 keyed with seconds, line feed and secret over nothing; the message stays byte for byte."""
    sent = signed("feishu-robot", 1_599_360_473.25)
    wanted = hmac.digest(f"1599360473\n{SECRET}".encode(), b"", "sha256")
    read = msgspec.json.decode(sent.body)
    assert (read["timestamp"], read["sign"]) == ("1599360473", base64.b64encode(wanted).decode())
    assert sent.body.endswith(MESSAGE[1:])
    assert sent.url == robot("feishu-robot").url


@pytest.mark.parametrize(
    ("name", "body", "outcome"),
    [
        ("dingtalk-robot", b'{"errcode":0,"errmsg":"ok"}', Outcome.OK),
        ("dingtalk-robot", b'{"errcode":310000,"errmsg":"sign not match"}', Outcome.AUTH),
        ("dingtalk-robot", b'{"status":1111,"wait":5,"errcode":130101,"errmsg":"send too fast"}', Outcome.THROTTLED),
        ("dingtalk-robot", b'{"errcode":34014}', Outcome.REJECT),
        ("wecom-robot", b'{"errcode":0}', Outcome.OK),
        ("wecom-robot", b'{"errcode":40058,"errmsg":"markdown.content exceed"}', Outcome.REJECT),
        ("wecom-robot", b'{"errcode":45009}', Outcome.THROTTLED),
        ("wecom-robot", b'{"errcode":93000}', Outcome.AUTH),
        ("feishu-robot", b'{"StatusCode":0,"code":0,"msg":"success"}', Outcome.OK),
        ("feishu-robot", b'{"code":19021,"msg":"sign match fail"}', Outcome.AUTH),
        ("feishu-robot", b'{"code":11232,"msg":"frequency limited psm"}', Outcome.THROTTLED),
        ("feishu-robot", b'{"code":9499,"msg":"Bad Request"}', Outcome.REJECT),
        ("feishu-robot", b"<html>maintenance</html>", Outcome.CONFIRM),
    ],
)
def test_a_200_is_read_by_its_body(name: str, body: bytes, outcome: Outcome) -> None:
    """What the robots say with a 200 decides; a page that says nothing is not taken for success."""
    rules = compile_terms("a", robot(name)).rules
    verdict = classify(Answer(200, Headers([]), body), rules=rules, compressed=False, items=1, wall=0.0)
    assert verdict.outcome is outcome


@pytest.mark.parametrize("name", ["dingtalk-robot", "wecom-robot", "feishu-robot"])
def test_robots_keep_below_their_limit(name: str) -> None:
    """18 a minute, one at a time: 20 are allowed, and a robot has other senders too."""
    assert [str(rate) for rate in robot(name).rate] == ["18/min"]
    assert robot(name).concurrency == 1
