"""URLs and methods with fields of the callback in them."""

import pytest
from relay.core.errors import Unfit
from relay.wire.payload.extract import InvalidJson
from relay.wire.payload.target import Target, TemplateFields

FACTS = TemplateFields(
    '{"id":7,"o":{"no":"a/b?c=d&é"},"verb":"put","up":"..","here":".","e":""}'.encode(), "key 1", None, "ID"
)


@pytest.mark.parametrize(
    ("url", "filled"),
    [
        ("https://x/{o.no}/ship", "https://x/a%2Fb%3Fc%3Dd%26%C3%A9/ship"),
        ("https://x/?k={key}&i={id}", "https://x/?k=key%201&i=ID"),
        ('https://x/{"id"}', "https://x/7"),
        ("https://x/?u={up}", "https://x/?u=.."),
        ("https://x/a%7B", "https://x/a%7B"),
    ],
)
def test_fields_are_percent_encoded(url: str, filled: str) -> None:
    """A value stays in its segment or parameter, whatever it holds; own names win over the payload's."""
    assert Target(method="POST", url=url).of(FACTS) == ("POST", filled)


def test_method_from_a_field() -> None:
    """A method may be a field, of those the relay sends."""
    assert Target(method="{verb}", url="https://x/").of(FACTS) == ("PUT", "https://x/")
    with pytest.raises(Unfit, match="none of POST, PUT, PATCH"):
        Target(method="{key}", url="https://x/").of(FACTS)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://x/{nothing}", "{nothing} is missing"),
        ("https://x/{e}", "{e} is missing"),
        ("https://x/{event}", "{event} is missing"),
        ("https://x/{up}/y", "segment of dots"),
        ("https://x/{here}/y", "segment of dots"),
    ],
)
def test_what_cannot_be_filled_in_is_named(url: str, message: str) -> None:
    """Absent and empty fields, and ones that would lead to another path, make the callback unfit."""
    with pytest.raises(Unfit, match=message):
        Target(method="POST", url=url).of(FACTS)


def test_payload_that_is_no_json() -> None:
    """A field of what is no JSON cannot be read."""
    with pytest.raises(InvalidJson):
        Target(method="POST", url="https://x/{a}").of(FACTS._replace(payload=b"{"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://{a}/", "host"),
        ("https://x/{a", "partner"),
        ("https://x/{ }", "nothing"),
        ("https://x/{a[}", "compile"),
    ],
)
def test_broken_templates(url: str, message: str) -> None:
    """What could never be filled in is refused with the configuration."""
    with pytest.raises(ValueError, match=message):
        Target(method="POST", url=url)
