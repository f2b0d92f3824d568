"""The slips that people make most: a space, a colon or an indentation too few or too many, each named where it is."""

from pathlib import Path

import pytest
from config_files import codes, platform, problems, write
from relay.config.load import load
from relay.config.problems import ConfigInvalid

HEAD = "version: 1\nplatforms:\n  a:\n    url: https://a.example/\n"


@pytest.mark.parametrize(
    ("text", "line", "col", "about"),
    [
        (f"{HEAD}    rate:100/min\n    key: x\n", 5, 10, "no space after its colon"),
        (f"{HEAD}    rate:100/min\n", 5, 10, "no space after its colon"),
        ("version:1\nplatforms:\n  a: {url: https://a/}\n", 1, 9, "no space after its colon"),
        ("version: 1\nplatforms:\n  a:\n    url:https://a/\n    key: x\n", 4, 9, "no space after its colon"),
        (f"{HEAD}    rate 100/min\n    key: x\n", 5, 9, "no colon after it"),
        ("version: 1\nplatforms:\n  a\n    url: https://a/\n", 3, 4, "no colon after it"),
        ("version: 1\nplatforms:\n  a   # the shop\n\n    url: https://a/\n", 3, 4, "no colon after it"),
        (f"{HEAD}     rate: 100/min\n", 5, 6, "indented deeper than the one in line 4"),
        (f"{HEAD}    # a remark\n\n      rate: 100/min\n", 7, 7, "indented deeper than the one in line 4"),
        (f"{HEAD}   rate: 100/min\n", 5, 4, "its indentation fits no line above"),
        (f"{HEAD}    classify:\n      - as: ok\n       status: 200\n", 7, 8, "its indentation fits no line above"),
        (f"{HEAD}    key: 'a' b\n", 5, 14, "put quotes around all of it"),
        (f"{HEAD}    rate: [5/s]\n    - 100/min\n", 6, 5, "indent it below the key that it belongs to"),
        (f"{HEAD}    headers: {{X: a: b}}\n", 5, 19, "put a comma between two keys"),
        (f"{HEAD}    batch: {{max_items: 1 max_bytes: 2MiB}}\n", 5, 35, "put a comma between two keys"),
        (f"{HEAD}    key: a: b\n", 5, 11, "quote the value"),
        (f"{HEAD}    key:\u00a0order_id\n", 5, 9, "type a plain space"),
    ],
)
def test_a_slip_is_named_where_it_was_made(tmp_path: Path, text: str, line: int, col: int, about: str) -> None:
    """The parser notices most of them a line later, and speaks of something else."""
    (found,) = problems(tmp_path, text)
    assert ((found.line, found.col, found.code), about in f"{found.message}; {found.hint}") == (
        (line, col, "E003"),
        True,
    ), str(found)


def test_no_word_of_a_slip_is_quoted(tmp_path: Path) -> None:
    """It may be a secret."""
    for slip in ("s3cr3t\n      x: y", "s3cr3t:s3cr3t\n      x: y", "s3cr3t s3cr3t\n      x: y"):
        assert "s3cr3t" not in str(problems(tmp_path, f"{HEAD}    token:\n      {slip}\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HEAD}  rate: 100/min\n", ["indent it below the platform's name"]),
        (f"{HEAD}  retry: {{times: 3}}\n", ["indent it below the platform's name", "did you mean 'retry.times'?"]),
        (f"{HEAD}rate: 100/min\n", ["rate is a key of a platform"]),
        ("version: 1\nplatforms:\na:\n  url: https://a/\n", ["indent the platforms below it", "below `platforms:`"]),
    ],
)
def test_a_key_too_far_to_the_left(tmp_path: Path, text: str, expected: list[str]) -> None:
    """It is taken for a platform, or for a section of the file; what to do is to indent it."""
    found = problems(tmp_path, text)
    assert [about in problem.hint for about, problem in zip(expected, found, strict=True)] == [True] * len(expected)


def test_a_platform_may_have_the_name_of_a_key(tmp_path: Path) -> None:
    """Whoever calls a platform ``rate`` may."""
    assert load(write(tmp_path, "version: 1\nplatforms: {rate: {url: https://a/}}\n"), environ={}).platforms["rate"]


def test_a_reference_that_is_never_closed(tmp_path: Path) -> None:
    """It would be sent as it stands, in place of the secret."""
    settings = 'headers: {A: "Bearer ${env:TOKEN", B: "$${env:TOKEN", C: "${file:a${env:TOKEN}"}'
    found = platform(tmp_path, settings, {"TOKEN": "t"})
    assert [(problem.col, problem.code) for problem in found] == [(18, "E041"), (62, "E041")]
    kept = f'{HEAD}    headers: {{A: "$${{env:TOKEN", B: "$${{"}}\n'
    headers = load(write(tmp_path, kept), environ={}).platforms["a"].headers
    assert headers == {"A": "${env:TOKEN", "B": "${"}


def test_files_that_hold_nothing_to_read(tmp_path: Path) -> None:
    """Nothing but comments, and what a Windows editor calls Unicode."""
    (found,) = problems(tmp_path, "# version: 1\n")
    assert (found.code, found.message) == ("E004", "the file holds nothing but comments")
    (tmp_path / "wide.yaml").write_text(HEAD, encoding="utf-16")
    with pytest.raises(ConfigInvalid, match="E002 the file is UTF-16, not UTF-8; save the file as UTF-8"):
        load(tmp_path / "wide.yaml", environ={})


def test_a_path_of_this_machine_is_meant_without_tls(tmp_path: Path) -> None:
    """A stand-in that is tried out speaks http."""
    for host, scheme in (("127.0.0.1:8790", "http"), ("localhost:8790", "http"), ("api.shop.example", "https")):
        (found,) = problems(tmp_path, f'version: 1\nplatforms: {{a: {{url: "{host}/x"}}}}\n')
        assert found.hint == f"did you mean {scheme}://{host}/x?"


@pytest.mark.parametrize(("host", "bad"), [("x..example", True), (".example", True), ("x.example.", False)])
def test_a_host_with_a_dot_too_many(tmp_path: Path, host: str, bad: bool) -> None:
    """No name server knows it; one dot at the end is the root's."""
    text = f"version: 1\nplatforms: {{a: {{url: https://{host}/}}}}\n"
    if bad:
        assert "empty part" in problems(tmp_path, text)[0].message
    else:
        load(write(tmp_path, text), environ={})


def test_a_path_into_the_payload_gets_the_hint_that_fits(tmp_path: Path) -> None:
    """Quotes help a name with a hyphen, and nothing else."""
    hyphen, dots = platform(tmp_path, 'key: order-id\ngroup: "shop..id"')
    assert ("need quotes" in hyphen.hint, dots.hint) == (True, "see https://jmespath.org")
    assert codes(tmp_path, f"{HEAD}    key: order_id\n    group: 1st\n") == [(6, 12, "E027")]
