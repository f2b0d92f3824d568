"""A configuration from a stranger: bounded while it is read, examined without looking anything up, told plainly."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from relay.config.load import examine, loads
from relay.config.problems import MOST_PROBLEMS, ConfigInvalid
from relay.config.reading import yaml_source
from relay.config.reading.yaml_source import MAX_NODES, _Loader, _TooMuch

HEAD = "version: 1\nplatforms: {a: {url: 'https://x.example/'}}\n"
ONE = "version: 1\nplatforms:\n  a:\n    url: https://x.example/\n"


def problems(text: str) -> list[str]:
    """Return the problems of a text, without the file's name."""
    try:
        loads(text, path="c.yaml", environ={})
    except ConfigInvalid as invalid:
        return [str(problem).removeprefix("c.yaml:") for problem in invalid.problems]
    return []


BOMBS: dict[str, Callable[[], str]] = {
    "lists": lambda: HEAD + "x: [" + "[]," * 1_300_000 + "]",
    "mappings": lambda: HEAD + "x: [" + "{}," * 1_300_000 + "]",
    "aliases": lambda: HEAD + "y: &a 1\nx: [" + "*a," * 1_300_000 + "]",
    "scalars": lambda: HEAD + "x: [" + "1," * 2_000_000 + "]",
    "keys": lambda: HEAD + "x: {" + "".join(f"k{number}: 1, " for number in range(300_000)) + "}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_values_are_counted_before_they_are_made(name: str) -> None:
    """E006 where the count is passed, in the time and memory of reading so far."""
    text = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (problem,) = problems(text)
    assert problem.partition(" ")[2] == f"E006 more than {MAX_NODES} keys and values"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 60


@pytest.mark.parametrize(
    "text", ["[" * 5000, "{a: " * 5000, "- " * 60, "&a [" * 50, "".join(f"{' ' * n}a:\n" for n in range(60))]
)
def test_levels_are_counted_too(text: str) -> None:
    """Whatever nests them: E006 or E003, never a RecursionError."""
    (problem,) = problems(text)
    assert problem.split()[1] in ("E006", "E003")


def test_the_slow_parser_counts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that the C parser gives up on early is bounded all the same."""
    monkeypatch.setattr(yaml_source, "MAX_NODES", 2000)
    with pytest.raises(_TooMuch, match="more than"):
        _Loader("[" + "1," * 2001 + "]").get_single_node()


def test_thousands_of_mistakes_are_cut_short() -> None:
    """The first are listed, and that more follow."""
    text = "version: 1\nplatforms:\n" + "".join(f"  p{number}: {{ulr: x}}\n" for number in range(2000))
    found = problems(text)
    assert len(found) == MOST_PROBLEMS + 1
    assert " E009 " in found[-1]


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("key", "[" * 1500, "E027"),
        ("key", "a." * 1500 + "a", "E027"),
        ("url", "https://x.example/" + "{a}" * 3000, "E024"),
        ("concurrency", "9" * 5000, "E013"),
        ("concurrency", "0x" + "f" * 5000, "E013"),
        ("timeout", "9" * 5000, "E013"),
        ("timeout", "'" + "9" * 5000 + "s'", "E021"),
    ],
)
def test_values_of_thousands_of_characters_are_mistakes(key: str, value: str, code: str) -> None:
    """They are refused with a code, and the message does not repeat them."""
    value = value if value[0] in "'0123456789" else f"'{value}'"
    text = f"version: 1\nplatforms:\n  a:\n    {key}: {value}\n" + (
        "" if key == "url" else "    url: https://x.example/\n"
    )
    (problem,) = problems(text)
    assert problem.split()[1] == code
    assert len(problem) < 300


def test_references_unfold_within_bounds(tmp_path: Path) -> None:
    """A large secret named often, or a text of thousands of references, is E006 and read once."""
    (tmp_path / "large").write_text("x" * 60_000)
    for text in ("${file:large}" * 900, "${file:none}" * 1001):
        source = HEAD + f"ingest: {{hosts: ['{text}']}}\n"
        with pytest.raises(ConfigInvalid) as caught:
            loads(source, path=tmp_path / "c.yaml", environ={})
        assert [problem.code for problem in caught.value.problems] == ["E006"]


def test_what_a_stranger_sends_is_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answer whether a file, a variable or a certificate is there or not, and none of them is read."""
    secret = tmp_path / "there"
    secret.write_text("s3cret")
    monkeypatch.setenv("THERE", "s3cret")

    def answers(name: str) -> list[str]:
        text = (
            ONE + f"    headers: {{X-A: '${{file:{name}}}', X-B: '${{env:{name.upper()}}}'}}\n"
            f"    connect: {{ca: '{tmp_path}/{name}'}}\n    ratte: 1/s\n"
            f"ingest: {{token: '${{file:{tmp_path}/{name}}}'}}\n"
        )
        return [str(problem).replace(name, "NAME") for problem in examine(text, path=tmp_path / "c.yaml")]

    assert answers("there") == answers("gone")
    assert [problem.split()[1] for problem in answers("there")] == ["E010"]
    monkeypatch.setattr(Path, "open", lambda *_args, **_more: pytest.fail("a file was opened"))
    monkeypatch.setattr(Path, "is_file", lambda *_args: pytest.fail("a file was looked for"))
    assert len(answers("there")) == 1


@pytest.mark.parametrize("reference", ["${file:a}", "${env:A}", "https://${env:HOST}/x", "${file:../../etc/shadow}"])
@pytest.mark.parametrize("key", ["url", "preset", "rate", "timeout", "key", "compress"])
def test_a_reference_is_taken_for_good(reference: str, key: str, tmp_path: Path) -> None:
    """What it would hold may be anything of the right form; a text that cannot be finished without it is no failure."""
    text = f"version: 1\nplatforms:\n  a:\n    {key}: '{reference}'\n" + (
        "" if key == "url" else "    url: https://x/\n"
    )
    codes = [problem.code for problem in examine(text, path=tmp_path / "c.yaml")]
    assert all(code < "E040" for code in codes)
    assert "E040" not in codes


def test_a_malformed_reference_is_told_to_strangers_too(tmp_path: Path) -> None:
    """It is a mistake of the text itself."""
    (problem,) = examine(ONE + "    key: '${order_id}'\n", path=tmp_path / "c.yaml")
    assert problem.code == "E041"


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nplatforms:\n  a:\n    url:\thttps://x.example/\n",
        "version:\t1\t# c\n\t\nplatforms:\t\n  a:\t{url:\t'https://x.example/',\trate: 1/s}\t\n",
        ONE + "\t# a comment\n",
        ONE + "    rate: 1/s\t\n    key:\torder_id\n",
    ],
)
def test_a_tab_that_separates_is_yaml(text: str) -> None:
    """After a colon, in a flow, before a comment, in an empty line (YAML 1.2 section 6.2)."""
    assert problems(text) == []


def test_a_tab_that_indents_is_not() -> None:
    """Named where it stands."""
    assert problems("version: 1\nplatforms:\n\ta: {}\n") == [
        "3:1: E003 a tab stands where YAML wants spaces; indent with spaces"
    ]


@pytest.mark.parametrize(
    ("text", "place", "code", "what"),
    [
        (ONE + "    rate：100/min\n    concurrency: 4\n", "5:9", "E003", "full-width colon"),
        (ONE + "    rate：100/min\n", "5:9", "E003", "full-width colon"),
        (ONE + "    rate：100/min # 说明：慢\n    key: a\n", "5:9", "E003", "full-width colon"),
        ("version: 1\nplatforms:\n  a：\n    url: https://x.example/\n", "3:4", "E003", "full-width colon"),
        ("version: 1\nplatforms：\n  a: {url: 'https://x/'}\n", "2:10", "E003", "full-width colon"),
        ("version：1\nplatforms: {a: {url: 'https://x/'}}\n", "1:8", "E003", "full-width colon"),
        ("version: 1\nplatforms: {a: {url：'https://x/'}}\n", "2:17", "E014", "full-width colon"),
        (ONE + "    rate:　100/min\n", "5:10", "E003", "ideographic space"),
        (ONE + "　　　　rate: 100/min\n", "5:1", "E010", "ideographic space"),
        (ONE + "    rate:\u00a0100/min\n", "5:10", "E003", "no-break space"),
        (ONE + "    rate: 100/min　\n", "5:11", "E020", "ideographic space"),
        (ONE + "    rate: [10/s，100/min]\n", "5:12", "E020", "full-width comma"),
        (ONE + "    method: “POST”\n", "5:13", "E015", "curly quotation mark"),
    ],
)
def test_a_wide_character_is_named_in_its_own_line(text: str, place: str, code: str, what: str) -> None:
    """What a Chinese keyboard writes looks right and means a letter; YAML complains elsewhere."""
    (problem,) = problems(text)
    assert problem.startswith(f"{place}: {code} ")
    assert what in problem


def test_wide_characters_may_stand_in_texts_and_comments() -> None:
    """A mistake elsewhere is told as what it is."""
    good = ONE + "    # 说明：这是\n    headers: {X-Note: 'a：b'}\n"
    assert problems(good) == []
    (problem,) = problems(good[:-2] + "\n")
    assert "full-width" not in problem


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("compress", "on", "did you mean 'gzip'?"),
        ("compress", "true", "did you mean 'gzip'?"),
        ("compress", "off", "did you mean 'none'?"),
        ("on_dead", "on", "did you mean 'block'?"),
        ("coalesce", "yes", "did you mean 'latest'?"),
        ("batch", "{max_bytes: 2000000}", "write 2MB if bytes are meant"),
        ("batch", "{max_bytes: 2097152}", "write 2MiB if bytes are meant"),
        ("batch", "{max_bytes: 10}", "write 10KiB or 10MiB"),
        ("batch", "{max_bytes: 123457}", "write 123457B if bytes are meant"),
        ("timeout", "30", "write 30s or 30m"),
        ("timeout", "30000", "write 30000ms if milliseconds are meant, which is 30s"),
    ],
)
def test_a_hint_says_what_was_meant(key: str, value: str, hint: str) -> None:
    """A bare number by its size, a switch by what it switches."""
    (problem,) = problems(ONE + f"    {key}: {value}\n")
    assert problem.endswith(hint)


def test_a_size_of_two_thousand_million_is_two_gigabytes() -> None:
    """Not 2000000000KiB."""
    (problem,) = problems(HEAD + "store: {max_size: 2000000000}\n")
    assert problem.endswith("E022 store.max_size: size 2000000000 has no unit; write 2GB if bytes are meant")


def test_a_misspelled_preset_is_one_mistake() -> None:
    """What is missing there would have come with it; another mistake there is told."""
    text = "version: 1\nplatforms:\n  a: {preset: wechat-shiping, auth: {client_id: a}, sign: {secret: x}%s}\n"
    (problem,) = problems(text % "")
    assert "did you mean 'wechat-shipping'?" in problem
    assert [each.split()[1] for each in problems(text % ", ratte: 1/s")] == ["E015", "E010"]


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ("    timeout: 3650d\n    expires: 3660d\n", "platforms.a.timeout"),
        ("    timeout: 1ms\n", "platforms.a.timeout"),
        ("    timeout: 5m\n    expires: 1m\n", "platforms.a.timeout is longer than expires"),
        ("    expires: 1ms\n    timeout: 100ms\n", "platforms.a.expires"),
        ("    batch: {linger: 2h}\n", "platforms.a.batch.linger"),
        ("    batch: {max_bytes: 1B}\n", "platforms.a.batch.max_bytes"),
        ("    batch: {max_bytes: 1000GiB}\n", "platforms.a.batch.max_bytes"),
        ("    retry: {backoff: 1ms..1m}\n", "platforms.a.retry.backoff"),
        ("    retry: {backoff: 1s..3650d}\n", "platforms.a.retry.backoff"),
        ("    breaker: {probe_every: 1ms}\n", "platforms.a.breaker.probe_every"),
        ("ingest: {max_body: 1B}\n", "ingest.max_body"),
        ("ingest: {max_bulk: 1000GiB}\n", "ingest.max_bulk"),
        ("store: {max_size: 1B}\n", "store.max_size"),
        ("store: {keep: {delivered: 1ms}}\n", "store.keep.delivered"),
        ("store: {keep: {dead: 1ms}}\n", "store.keep.dead"),
        (
            "store: {url: 'redis://h', keep: {delivered: 6h, history: 6h}}\n",
            "store.keep.history: 21600s after its end a callback still lies on the server (21600s)",
        ),
        (
            "    key: order_id\nstore: {url: 'redis://h', keep: {delivered: 6h, history: 90d}}\n"
            "reconcile: {a: {order_center: {file: a.csv}, platform: {file: b.csv}, "
            "columns: {key: order_id, status: status, at: at}, order: [paid]}}\n",
            "reconcile.a: a span of 172800s is compared, but what was delivered stays for 21600s",
        ),
    ],
)
def test_a_value_that_is_hardly_meant_is_warned_of(section: str, place: str) -> None:
    """It can be used, so it is no error; the message says what it does."""
    warnings = [str(each) for each in loads(ONE + section, path="c.yaml", environ={}).warnings]
    assert any(f" W013 {place}" in each for each in warnings), warnings


def test_a_history_is_kept_beside_a_server_alone() -> None:
    """As the page of several hosts has it, nothing is warned of; a file holds everything, so it is of no use there."""
    keep = "keep: {delivered: 6h, dead: 90d, history: 90d}"
    shared = loads(ONE + f"store: {{url: 'redis://h', {keep}}}\n", path="c.yaml", environ={})
    assert (shared.warnings, shared.store_rules().keep_history_s) == ((), 90 * 86400.0)
    assert shared.history_path == shared.store_path.with_name("spool.db.history")
    (warning,) = loads(ONE + f"store: {{{keep}}}\n", path="c.yaml", environ={}).warnings
    assert " W010 store.keep.history is not used with sqlite" in str(warning)


def test_ordinary_values_are_not_warned_of() -> None:
    """The defaults, and what people set."""
    text = ONE + "    timeout: 60s\n    expires: 7d\n    batch: {linger: 30s, max_bytes: 64KiB}\n"
    assert loads(text, path="c.yaml", environ={}).warnings == ()


@pytest.mark.parametrize(("linger", "expires"), [("2m", "1m"), ("1m", "1m"), ("30h", "24h")])
def test_lingering_beyond_expiry_is_a_mistake(linger: str, expires: str) -> None:
    """No callback would ever be sent."""
    (problem,) = problems(ONE + f"    expires: {expires}\n    batch: {{linger: {linger}}}\n")
    assert " E051 platforms.a.batch.linger: callbacks wait " in problem
