"""The section ``receipts`` of the configuration: the contract's example, defaults, and what is refused."""

from pathlib import Path

import pytest
from relay.core.receipts import RECEIPTS
from relay.daemon.intake import directory
from relay.delivery.terms import compile_all
from tests.unit.config_files import MINIMAL, codes, loaded, problems

URL = "receipts: {url: http://127.0.0.1:9000/relay/receipts"


def test_the_contracts_example_becomes_a_platform(tmp_path: Path) -> None:
    """Any platform key beside the URL; it is delivered, and cannot be posted to. ``defaults`` do not hold for it."""
    sign = "{kind: standard-webhooks, secret: '${env:WHSEC}'}"
    given = f"{URL}, expires: 2h, rate: 100/min, sign: {sign}, envelope: single}}\n"
    text = MINIMAL + given + "defaults: {key: order_id, timeout: 3s}\n"
    config = loaded(tmp_path, text, {"WHSEC": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    terms = {each.platform: each for each in compile_all(config)}
    assert terms[RECEIPTS].url == "http://127.0.0.1:9000/relay/receipts"
    assert terms[RECEIPTS].timeout_s == 10.0
    assert terms[RECEIPTS].signer is not None
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" in terms[RECEIPTS].secrets
    rules = config.store_rules()
    assert rules.receipts is not None
    assert rules.receipts.on == {"dead", "expired", "held"}
    assert rules.receipts.expires_s == 7200.0
    assert rules.platforms[RECEIPTS].quotas == ("platform:_receipts",)
    assert RECEIPTS not in config.destinations
    assert RECEIPTS not in directory(config).platforms
    assert loaded(tmp_path, MINIMAL, {}).store_rules().receipts is None


def test_an_envelope_that_adds_something_measures_receipts(tmp_path: Path) -> None:
    """So that a batch keeps its bytes; what no body can be built of is left to the delivery, not to the transaction."""
    whole = "{kind: form, item: {body: '@'}}"
    rules = loaded(tmp_path, f"{MINIMAL}{URL}, envelope: {whole}}}\n", {}).store_rules().receipts
    assert rules is not None
    assert rules.size is not None
    assert rules.size(b'{"id": 1}', None, None) > 9
    assert rules.size(b"no json", None, None) == 7


@pytest.mark.parametrize(
    ("given", "code", "about"),
    [
        (", on: [dead, delivred]", "E015", "did you mean 'delivered'?"),
        (", on: []", "E051", "`on` is empty"),
        (", key: order_id", "E051", "receipts keep the order of the callbacks' keys"),
        (", coalesce: latest", "E051", "each end has its receipt"),
        (", accept: {path: /x}", "E051", "nobody posts receipts"),
        (", preset: dingtalk-robot", "E051", "a preset is not read here"),
        (", burst: 3", "E051", "receipts.burst"),
        (", quotas: [none]", "E050", "receipts.quotas[0]: there is no quota 'none'"),
        (", expires: 5s, batch: {linger: 9s}", "E051", "receipts.batch.linger"),
    ],
)
def test_what_is_refused(tmp_path: Path, given: str, code: str, about: str) -> None:
    """Each is named where it is written."""
    (found,) = problems(tmp_path, f"{MINIMAL}{URL}{given}}}\n", {})
    assert (found.code, about in f"{found.message} {found.hint}") == (code, True), str(found)
    assert found.line == (MINIMAL.count("\n") + 1)


def test_a_route_cannot_name_it_and_platforms_are_needed(tmp_path: Path) -> None:
    """The name is nobody's to give; receipts alone are no relay."""
    routes = "routes: [{match: {event: x}, to: [_receipts]}]\n"
    assert [code for *_, code in codes(tmp_path, f"{MINIMAL}{URL}}}\n{routes}")] == ["E026"]
    assert [code for *_, code in codes(tmp_path, f"version: 1\nplatforms: {{}}\n{URL}}}\n")] == ["E053"]
