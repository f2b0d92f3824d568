"""``include``: several files are one configuration, and every problem names its file."""

import os
from pathlib import Path

import pytest
from config_files import write
from relay.cli.support.locate import locate
from relay.config.effective import as_tree, effective
from relay.config.load import examine, load, loads
from relay.config.problems import ConfigInvalid
from relay.config.reading import include
from relay.config.schema.file import Config

MAIN = "version: 1\ninclude: conf.d/*.yaml\n"


def laid_out(directory: Path, main: str, **parts: str) -> Path:
    """Write a main file, and ``conf.d/NAME.yaml`` for each part."""
    (directory / "conf.d").mkdir(exist_ok=True)
    for name, text in parts.items():
        write(directory / "conf.d", text, f"{name}.yaml")
    return write(directory, main)


def read(directory: Path, main: str, **parts: str) -> Config:
    """Load such a configuration."""
    return load(laid_out(directory, main, **parts), environ={})


def wrong(directory: Path, main: str, **parts: str) -> list[str]:
    """Return its problems, with names of files relative to the directory."""
    path = laid_out(directory, main, **parts)
    with pytest.raises(ConfigInvalid) as caught:
        load(path, environ={})
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def test_mappings_are_merged(tmp_path: Path) -> None:
    """Platforms of two files and the main one are all there, also where the main file only opens the section."""
    found = read(
        tmp_path,
        MAIN + "platforms:\nstore: {max_size: 1GiB}\n",
        b="platforms: {b: {url: https://b.example/}}\nstore: {keep: {dead: 1d}}\n",
        a="platforms: {a: {url: https://a.example/, rate: 5/s}}\n",
        c="# platforms: {c: {}}\n",
    )

    assert list(found.platforms) == ["a", "b"]
    assert (found.store.max_size, found.store.keep.dead) == (2**30, 86400.0)


def test_one_platform_may_stand_in_two_files(tmp_path: Path) -> None:
    """What a person shares and what a machine writes of a platform are merged key by key."""
    found = read(
        tmp_path,
        MAIN + "platforms: {a: {url: https://a.example/}}\n",
        rates="platforms: {a: {rate: 5/s}}\n",
    )

    assert [str(rate) for rate in found.platforms["a"].rate or ()] == ["5/s"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            "platforms:\n  a:\n    url: https://b.example/\n",
            "conf.d/p.yaml:3:5: E005 the key 'url' in platforms.a is set twice; first in config.yaml:5:5",
        ),
        ("\nversion: 1\n", "conf.d/p.yaml:2:1: E005 the key 'version' is set twice; first in config.yaml:1:1"),
        ("platforms: 3\n", "conf.d/p.yaml:1:1: E005 the key 'platforms' is set twice; first in config.yaml:3:1"),
    ],
)
def test_a_key_set_twice_is_an_error(tmp_path: Path, part: str, said: str) -> None:
    """Both places are named, whatever the two values are."""
    assert wrong(tmp_path, MAIN + "platforms:\n  a:\n    url: https://a.example/\n", p=part) == [said]


def test_a_list_is_one_key(tmp_path: Path) -> None:
    """Routes of two files are not put together: their order decides, and nobody would see it."""
    routes = "routes: [{match: {event: x}, to: [a]}]\n"

    (said,) = wrong(tmp_path, MAIN + "platforms: {a: {url: https://a.example/}}\n" + routes, p=routes)

    assert said.startswith("conf.d/p.yaml:1:1: E005 the key 'routes' is set twice; first in config.yaml:4:1")


def test_problems_name_the_included_file(tmp_path: Path) -> None:
    """A bad value, an unknown key, a syntax error and a contradiction stand where they were written."""
    bad = "platforms:\n  b:\n    url: https://b.example/\n    rate: 100\n    bach: 1\n    quotas: [gone]\n"
    found = wrong(tmp_path, MAIN + "platforms: {a: {url: 5}}\n", bad=bad)

    assert [one.partition(" ")[0] for one in found] == [
        "conf.d/bad.yaml:4:11:",
        "conf.d/bad.yaml:5:5:",
        "conf.d/bad.yaml:6:14:",
        "config.yaml:3:22:",
    ]


def test_warnings_and_origins_name_the_included_file(tmp_path: Path) -> None:
    """``show --origin`` and warnings point into the file that says it; ``include`` itself is no setting in force."""
    path = laid_out(
        tmp_path,
        MAIN,
        q="quotas: {unused: {rate: 1/s}}\nplatforms:\n  a: {url: https://a.example/, preset: wecom-robot}\n",
    )
    found = load(path, environ={})
    origins = {setting.path: setting.origin for setting in effective(found)}

    part = str(tmp_path / "conf.d" / "q.yaml")
    assert origins["platforms", "a", "url"] == f"{part}:3"
    assert origins["platforms", "a", "classify"] == f"preset wecom-robot, {part}:3"
    assert [(one.file, one.code) for one in found.warnings] == [(part, "W003")]
    assert "include" not in as_tree(effective(found))
    assert found.files == {str(path), part}


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """All of them are named at once, and nothing is said that follows from what they lack."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "conf.d" / "folder.yaml").mkdir()

    assert wrong(tmp_path, "version: 1\ninclude: [conf.d/*.yaml, extra.yaml]\n", odd="a: [\n", list="- a\n") == [
        "conf.d/folder.yaml:1:1: E001 this is a directory; included by config.yaml:2",
        "conf.d/gone.yaml:1:1: E001 there is no such file; included by config.yaml:2",
        "conf.d/list.yaml:1:1: E004 the file must hold a mapping; start with `version: 1` and `platforms:`",
        "conf.d/odd.yaml:2:1: E003 a bracket or brace opens here and is never closed; close it where it ends",
        "extra.yaml:1:1: E001 there is no such file; included by config.yaml:2",
    ]


def test_nothing_to_include_is_a_warning(tmp_path: Path) -> None:
    """A pattern that matches nothing, also in a folder that is not there; editors' copies are not matched."""
    text = "version: 1\ninclude: [none.d/*.yaml, conf.d/*.yaml]\nplatforms: {a: {url: https://a.example/}}\n"
    path = laid_out(tmp_path, text)
    write(tmp_path / "conf.d", "nonsense", "a.yaml~")
    write(tmp_path / "conf.d", "nonsense", ".b.yaml")

    found = load(path, environ={})

    assert list(found.platforms) == ["a"]
    assert [str(warning).replace(f"{tmp_path}/", "") for warning in found.warnings] == [
        "config.yaml:2:11: W015 'none.d/*.yaml' includes nothing: there is no folder none.d",
        "config.yaml:2:26: W015 'conf.d/*.yaml' includes nothing: no file has such a name",
    ]
    write(tmp_path / "conf.d", "quotas: {}\n", "c.yaml")
    assert [warning.col for warning in load(path, environ={}).warnings] == [11]


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Where the folder cannot be listed, its files would silently be missing."""
    write(tmp_path, "", "file")
    found = wrong(tmp_path, "version: 1\ninclude: file/*.yaml\nplatforms: {a: {url: https://a.example/}}\n")

    assert found == ["config.yaml:2:10: E035 file cannot be read: not a directory"]


@pytest.mark.parametrize("pattern", ["'*/x.yaml'", "'${file:x}'", "conf.d/"])
def test_patterns_that_name_no_files(tmp_path: Path, pattern: str) -> None:
    """Wildcards in a folder, references, and a folder alone."""
    (said,) = wrong(tmp_path, f"version: 1\ninclude: {pattern}\n")

    assert said.startswith("config.yaml:2:10: E035 ")


def test_included_files_include_nothing(tmp_path: Path) -> None:
    """There is one level, and a file that wants more is told so."""
    assert wrong(tmp_path, MAIN + "platforms: {a: {url: https://a.example/}}\n", p="include: more.yaml\n") == [
        "conf.d/p.yaml:1:1: E035 an included file includes nothing itself; name its files in config.yaml"
    ]


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """Two patterns that hold for one file do not set its keys twice."""
    main = "version: 1\ninclude: [conf.d/a.yaml, conf.d/*.yaml]\n"

    assert list(read(tmp_path, main, a="platforms: {a: {url: https://a.example/}}\n").platforms) == ["a"]


@pytest.mark.parametrize("given", ["3", "{a: b}", "[1]"])
def test_include_of_another_type(tmp_path: Path, given: str) -> None:
    """A number or mapping is refused as any other wrong type."""
    found = wrong(tmp_path, f"version: 1\ninclude: {given}\nplatforms: {{a: {{url: https://a.example/}}}}\n")

    assert [one.split()[1] for one in found] == ["E013"]


def test_all_files_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are each small enough may be too much together."""
    monkeypatch.setattr(include, "MAX_NODES", 100)
    half = "".join(f"k{{0}}{n}: 1\n" for n in range(60))

    (said,) = wrong(tmp_path, MAIN, a=half.replace("{0}", "a"), b=half.replace("{0}", "b"))

    assert said == "conf.d/b.yaml:1:1: E006 all files hold more than 100 keys and values"


def test_a_link_to_the_main_file(tmp_path: Path) -> None:
    """Patterns start where the file really lies, as references do, and messages name that place."""
    real = tmp_path / "real"
    real.mkdir()
    laid_out(real, MAIN, a="platforms: {a: {url: 3}}\n")
    os.symlink(real / "config.yaml", tmp_path / "config.yaml")

    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path / "config.yaml", environ={})

    assert [problem.file for problem in caught.value.problems] == [str(real / "conf.d" / "a.yaml")]


def test_a_text_that_was_sent_includes_nothing(tmp_path: Path) -> None:
    """Who sends a text must not learn what files are here; a text of our own is as if it stood in the file."""
    path = laid_out(tmp_path, MAIN, a="platforms: {a: {url: https://a.example/}}\n")

    (problem,) = examine(MAIN, path=path)

    assert (problem.line, problem.code) == (2, "E035")
    assert list(loads(MAIN, path=path).platforms) == ["a"]


def test_commands_find_the_daemon_of_an_included_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it listens and what is its store may stand in an included file."""
    monkeypatch.delenv("RELAY_TOKEN", raising=False)
    part = "admin: {listen: 127.0.0.1:9999}\nstore: {url: sqlite:other.db}\nplatforms: {b: {}}\n"
    place = locate(str(laid_out(tmp_path, MAIN, p=part)))

    assert (place.admin, place.store, place.platforms) == ("127.0.0.1:9999", f"sqlite:{tmp_path}/other.db", ("b",))
