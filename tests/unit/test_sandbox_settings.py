"""The words of the stand-in's settings: what they mean and what the mistakes say."""

from typing import Any

import pytest
from relay.core.model import Rate
from relay.standin.settings import BadSetting, Settings


def test_words_become_settings() -> None:
    """Every kind of word is read as it is written on the command line."""
    settings = Settings().changed(
        {
            "limit": ["100/min", "fixed:5000/h", "bucket:2/s"],
            "over": "429+retry-after",
            "latency": "0s..2s",
            "fault": ["500:0.05", "apply-then-reset:0.01"],
            "accept": "none",
            "max_bytes": "1MiB",
        }
    )
    assert settings.limit == (
        ("sliding", Rate(100, 60.0)),
        ("fixed", Rate(5000, 3600.0)),
        ("bucket", Rate(2, 1.0)),
    )
    assert (settings.over.status, settings.over.retry_after) == (429, True)
    assert settings.latency == (0.0, 2.0)
    assert [(fault.answer.act, fault.answer.applied, fault.probability) for fault in settings.fault] == [
        ("answer", False, 0.05),
        ("reset", True, 0.01),
    ]
    assert (settings.accept, settings.max_bytes) == ((), 2**20)


def test_null_takes_the_default_back() -> None:
    """What was switched on is switched off by null, leaving the rest."""
    settings = Settings().changed({"outage": "503", "latency": "1s"})
    assert settings.changed({"outage": None}) == Settings().changed({"latency": "1s"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"limits": "1/s"}, "there is no setting 'limits'"),
        ({"limit": "100"}, "limit: .*100"),
        ({"limit": "leaky:1/s"}, "use sliding"),
        ({"over": "sulk"}, "over: 'sulk' is nothing a platform can do: use a status"),
        ({"fault": "500"}, "write 500:0.05"),
        ({"fault": ["500:0.9", "reset:0.2"]}, "more than 1"),
        ({"fault": "500:2"}, "between 0 and 1"),
        ({"latency": "2s..1s"}, "ends before it starts"),
        ({"accept": "br"}, "no content coding 'br'"),
        ({"shape": "tree"}, "no shape 'tree'"),
        ({"limit": "bucket:5/day@+08:00"}, "limit: 5/day@.08:00 begins at a fixed time: leave 'bucket' out"),
        ({"items": "6000"}, "items: .*6000"),
        ({"bytes": "50/min"}, "bytes: .*50"),
        ({"cost": "0"}, "cost: a callback costs more than 0"),
        ({"cost": "a["}, "cost: "),
        ({"fault": "500:often"}, "fault: .*often"),
    ],
)
def test_mistakes_are_named_with_what_to_write(words: dict[str, Any], message: str) -> None:
    """Each mistake says which setting and what would be right."""
    with pytest.raises(BadSetting, match=message):
        Settings().changed(words)
