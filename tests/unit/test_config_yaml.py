"""Reading YAML: the meaning of version 1.2, positions, and what is refused before any setting is looked at."""

from pathlib import Path

import pytest
from config_files import MINIMAL, codes, problems
from relay.config.load import load
from relay.config.problems import ConfigInvalid
from relay.config.reading.yaml_source import parse_source


def test_core_schema() -> None:
    """Only what YAML 1.2's core schema names is no text: on, no, 12:30, 1_000 and dates stay as written."""
    text = (
        "a: [on, off, yes, no, y, 12:30, 1:30:00, 2024-01-02, 1_000, 0o17, 0x1F, 017, +5, 1e3, .5, .inf, true, ~, '1']"
    )
    data = parse_source(text.encode(), "f").data
    texts = ["on", "off", "yes", "no", "y", "12:30", "1:30:00", "2024-01-02", "1_000"]
    assert data["a"] == [*texts, 15, 31, 17, 5, 1000.0, 0.5, float("inf"), True, None, "1"]


def test_marks_point_at_keys_and_values() -> None:
    """Every path knows where its key and its value stand, columns counted in characters, a byte order mark ignored."""
    source = parse_source("\ufeff中文: {键: [1, 二]}\n".encode(), "f")
    mark = source.marks[("中文", "键")]
    assert (mark.key_line, mark.key_col, mark.line, mark.col) == (1, 6, 1, 9)
    assert source.marks[("中文", "键", 1)].col == 13


@pytest.mark.parametrize(
    ("text", "line", "col", "code"),
    [
        ("", 1, 1, "E004"),
        ("# nothing\n---\n", 1, 1, "E004"),
        ("- a\n", 1, 1, "E004"),
        ("just text\n", 1, 1, "E004"),
        ("a:\n\t- b\n", 2, 1, "E003"),
        ("a: b: c\n", 1, 5, "E003"),
        ("a: [1, 2\n", 1, 4, "E003"),
        ("a: {b: 2\nc: 3\n", 2, 2, "E003"),
        ("a: 'b\nc: d\n", 1, 4, "E003"),
        ("a: @x\n", 1, 4, "E003"),
        ("a: *x\n", 1, 4, "E003"),
        ("a: 1\n---\nb: 2\n", 2, 1, "E003"),
        ("a: \x01\n", 1, 4, "E003"),
        ("a: " + "[" * 5000, 1, 35, "E006"),
        ("a: &a [*a]\n", 1, 4, "E006"),
    ],
)
def test_unreadable_files(tmp_path: Path, text: str, line: int, col: int, code: str) -> None:
    """What is no usable YAML gives one problem at its place, never a traceback."""
    assert codes(tmp_path, text) == [(line, col, code)]


def test_alias_bomb_is_bounded() -> None:
    """Aliases that unfold into billions of values are refused at once."""
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(ConfigInvalid, match="E006 the aliases unfold"):
        parse_source(("a0: &a0 [x]\n" + levels).encode(), "f")


def test_aliases_within_reason_are_read(tmp_path: Path) -> None:
    """An anchor may be used several times; each use counts as written there."""
    text = "version: 1\nplatforms:\n  a: &a {url: https://a.example/, timeout: 3s}\n  b: *a\n"
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert load(path, environ={}).platforms["b"].timeout == 3.0


def test_not_utf8(tmp_path: Path) -> None:
    """A byte that is not UTF-8 is named with its position."""
    path = tmp_path / "c.yaml"
    path.write_bytes(b"a: b\nc: d\xff\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    assert str(caught.value) == f"{path}:2:5: E002 byte 0xff is not UTF-8; save the file as UTF-8"


def test_missing_file_directory_and_huge_file(tmp_path: Path) -> None:
    """A path that is no readable file says so."""
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(5 * 2**20)
    for path, words in ((tmp_path / "no.yaml", "no such file"), (tmp_path, "directory"), (huge, "larger than 4 MiB")):
        with pytest.raises(ConfigInvalid, match=words):
            load(path)


def test_duplicate_keys(tmp_path: Path) -> None:
    """A key that stands twice is an error at its second place, at any depth, and names the first."""
    found = problems(tmp_path, MINIMAL + "store:\n  url: sqlite:a\n  url: sqlite:b\nversion: 1\n")
    assert [str(problem).partition("config.yaml:")[2] for problem in found] == [
        "5:3: E005 the key 'url' stands here twice; first in line 4",
        "6:1: E005 the key 'version' stands here twice; first in line 1",
    ]


def test_features_not_read(tmp_path: Path) -> None:
    """Tags of one's own, merge keys and keys that are not text are named, and hide nothing else."""
    text = "version: 1\nx: &x {timeout: 1s}\nplatforms:\n  a: {<<: *x, url: !env A}\n  1: {url: https://b/}\n"
    assert codes(tmp_path, text) == [(2, 1, "E010"), (4, 7, "E007"), (4, 20, "E007"), (5, 3, "E007")]
