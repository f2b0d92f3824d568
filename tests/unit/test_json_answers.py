"""The JSON of both listeners is shown on terminals, by curl as well as by our own commands."""

import json

import pytest
from relay.web.refusal import problem
from relay.web.response import json_answer

DRIVING = "\x7f\x9b31m\u2028\u202e\u2066\ufeff\U000e0041"


@pytest.mark.parametrize("key", [DRIVING, "\x7f", "\u202e订单"])
def test_nothing_in_an_answer_drives_a_terminal(key: str) -> None:
    """What could is escaped; whoever decodes it reads the same."""
    for answer, member in ((json_answer({"key": key}), "key"), (problem("bad_request", key), "detail")):
        text = answer.body.decode()

        assert not [character for character in DRIVING if not character.isprintable() and character in text]
        assert json.loads(text)[member] == key


def test_words_stay_as_they_are() -> None:
    """Only what could do harm is written in another way."""
    assert json_answer({"key": "订单🙂"}).body == '{"key":"订单🙂"}'.encode()
