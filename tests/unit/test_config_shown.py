"""What a configuration says of who sees what: read in its order, checked as a whole."""

from pathlib import Path

import pytest
from relay.core.model import Rate
from relay.privacy.masking import KeepEnds
from tests.unit.config_files import MINIMAL, loaded, problems

WHOLE = """
privacy:
  mask:
    - {path: receiver.name, as: name}
    - {path: "items[*].card", as: {keep: [3, 4]}}
  views:
    service: {show: [order_id, nickname], mask: [receiver.phone], default: hide}
    careful: {mask: [receiver.phone], show: [receiver], hide: [key], default: mask}
  reveals: 5/day
admin:
  users: [{name: li, role: viewer, view: service, token: t0k3nt0k3n1}, {name: zhao, role: stats, token: t0k3nt0k3n2}]
"""


def test_views_are_read_in_their_order(tmp_path: Path) -> None:
    """The lists keep the order of the file, as the first that fits decides."""
    config = loaded(tmp_path, MINIMAL + WHOLE)
    assert config.privacy.masks == ((("receiver", "name"), "name"), (("items", "card"), KeepEnds(3, 4)))
    views = config.privacy.compiled()
    assert [(".".join(rule.path), str(rule.shade)) for rule in views["careful"].rules] == [
        ("receiver.phone", "mask"),
        ("receiver", "show"),
        ("key", "hide"),
    ]
    assert (str(views["service"].default), str(views["careful"].default)) == ("hide", "mask")
    assert config.privacy.reveals == Rate(5, 86400.0)
    assert [user.view for user in config.admin.users] == ["service", None]
    assert "W014" not in [warning.code for warning in config.warnings]


def test_without_a_section_everything_is_masked(tmp_path: Path) -> None:
    """No masks, no views, 30 reveals an hour."""
    shown = loaded(tmp_path, MINIMAL).privacy
    assert (shown.masks, shown.compiled(), shown.reveals) == ((), {}, Rate(30, 3600.0))


@pytest.mark.parametrize(
    ("section", "code", "hint"),
    [
        ("{mask: [{path: a..b, as: name}]}", "E031", "receiver.name"),
        ("{mask: [{path: a, as: nmae}]}", "E015", "did you mean 'name'?"),
        ("{mask: [{path: a, as: {keep: [3]}}]}", "E015", "{keep: [3, 4]}"),
        ("{mask: [{path: a, as: {keep: [-1, 2]}}]}", "E015", "{keep: [3, 4]}"),
        ("{mask: [{path: a}]}", "E011", ""),
        ("{views: {v: {show: [5]}}}", "E013", "receiver.name"),
        ("{views: {v: {default: all}}}", "E015", ""),
        ("{views: {v: {shwo: [a]}}}", "E010", "did you mean 'show'?"),
        ("{reveals: 30}", "E020", "30/"),
        ("{views: {service: {}}}\nadmin: {users: [{name: li, role: viewer, view: servce, token: t0k3nt0k3n}]}",
         "E057", "did you mean 'service'?"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, section: str, code: str, hint: str) -> None:
    """Each with its code and what to do."""
    found = problems(tmp_path, f"{MINIMAL}privacy: {section}\n")
    assert [problem.code for problem in found] == [code]
    assert hint in found[0].hint


def test_a_path_that_never_decides_is_warned_of(tmp_path: Path) -> None:
    """``{show: [receiver], mask: [receiver.phone]}`` shows the phone: hardly what was meant."""
    text = MINIMAL + "privacy: {views: {v: {show: [receiver], mask: [receiver.phone], default: hide}}}\n"
    (warning,) = loaded(tmp_path, text).warnings
    assert warning.code == "W014"
    assert "receiver.phone never decides, as show stands before it" in warning.message
    any_key = "privacy: {views: {v: {show: ['*'], hide: [a.b]}}}\n"
    assert [warning.code for warning in loaded(tmp_path, MINIMAL + any_key).warnings] == ["W014"]
