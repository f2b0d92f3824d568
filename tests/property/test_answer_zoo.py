"""Answers that all say errcode 0, in odd ways that browsers, curl or Go read: each is read, however it is cut."""

import asyncio
import gzip
import zlib
from collections.abc import Sequence

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from relay.core.model import Outcome
from relay.delivery.sender import HttpSender, Request
from relay.wire.answers.answer import Answer, Headers
from relay.wire.answers.classify import classify
from relay.wire.answers.framing import AnswerFraming, BadAnswer
from relay.wire.compress import decompress_start
from tests.compiled import compiled_rule

RULE = compiled_rule({"path": "errcode", "in": [0], "as": "ok"})
OK = b'{"errcode":0}'


def plain(*lines: bytes, body: bytes = OK, status: bytes = b"HTTP/1.1 200 OK", length: bool = True) -> bytes:
    """An answer with these header lines and its Content-Length."""
    stated = [b"Content-Length: %d" % len(body)] if length else []
    return b"\r\n".join([status, *lines, *stated]) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, lines: Sequence[bytes] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    """An answer of chunks that are given with their size lines."""
    head = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"Transfer-Encoding: chunked"])
    return head + b"\r\n\r\n" + b"".join(chunks) + end


def coded(name: bytes, body: bytes) -> bytes:
    """An answer with a Content-Encoding."""
    return plain(b"Content-Encoding: " + name, body=body)


def typed(value: str, text: str, codec: str) -> bytes:
    """An answer with a Content-Type, its text encoded."""
    return plain(b"Content-Type: " + value.encode(), body=text.encode(codec))


_DEFLATE = zlib.compressobj(wbits=-15)
RAW_DEFLATE = _DEFLATE.compress(OK) + _DEFLATE.flush()
CHINESE = '{"errcode":0,"errmsg":"\u8aa0"}'  # its second byte in GBK is a backslash
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"

ZOO = {
    "as usual": plain(b"Content-Type: application/json"),
    "no reason phrase": plain(status=b"HTTP/1.1 200"),
    "an empty reason phrase": plain(status=b"HTTP/1.1 200 "),
    "a long reason phrase": plain(status=b"HTTP/1.1 200 " + "\u597d".encode() * 3000),
    "another good status": plain(status=b"HTTP/1.1 202 Accepted"),
    "a line end before it": b"\r\n\n" + plain(),
    "names in odd case": plain(b"cOnTeNt-lEnGtH: 13", length=False),
    "no space after the colon": plain(b"Content-Length:13", length=False),
    "spaces around": plain(b"Content-Length \t: \t 13 \t", length=False),
    "zeros before the length": plain(b"Content-Length: 0013", length=False),
    "the length twice": plain(b"Content-Length: 13"),
    "the length as a list": plain(b"Content-Length: 13, 13", length=False),
    "lines that end in LF": plain(b"X-A: b").replace(b"\r\n", b"\n"),
    "a folded field": plain(b"X-A: b\r\n c\r\n\td"),
    "a folded status line": plain(b" X-A: b"),
    "a line without a colon": plain(b"whatever"),
    "a field without a value": plain(b"X-A:"),
    "bytes beyond ASCII": plain(b"X-A: \xb6\xa9 \xff"),
    "a field of 100 KB": plain(b"X-A: " + b"x" * 100_000),
    "2,000 fields": plain(*[b"Set-Cookie: a%d=b" % number for number in range(2_000)]),
    "an empty body type": plain(b"Content-Type:"),
    "connection: close": plain(b"Connection: Close"),
    "connection: several": plain(b"Connection: keep-alive, x", b"Keep-Alive: timeout=5"),
    "something behind it": plain() + b"\r\ngarbage\r\n\r\n",
    "another one behind it": plain() + plain(body=b'{"errcode":9}'),
    "interim answers": INTERIM * 4 + b"HTTP/1.1 100\r\n\r\n" + plain(),
    "an interim answer of HTTP/1.0": b"HTTP/1.0 100 Continue\r\n\r\n" + plain(),
    "HTTP/1.0 with a length": plain(status=b"HTTP/1.0 200 OK"),
    "HTTP/1.0 kept alive": plain(b"Connection: Keep-Alive", status=b"HTTP/1.0 200 OK"),
    "HTTP/1.0 without a length": plain(status=b"HTTP/1.0 200 OK", length=False),
    "no length at all": plain(length=False),
    "transfer coding identity": plain(b"Transfer-Encoding: identity"),
    "transfer coding identity, no length": plain(b"Transfer-Encoding: identity", length=False),
    "chunks": chunked(b'5\r\n{"err\r\n', b'8\r\ncode":0}\r\n'),
    "chunks of a byte": chunked(*[b"1\r\n%c\r\n" % byte for byte in OK]),
    "chunk extensions": chunked(b'd;a;b=c;d="e;\\"f"\r\n' + OK + b"\r\n", end=b"0;last\r\n\r\n"),
    "odd chunk sizes": chunked(b"000D \r\n" + OK + b"\r\n", end=b"000\r\n\r\n"),
    "chunks that end in LF": chunked(b"d\n" + OK + b"\n", end=b"0\n\n"),
    "trailers": chunked(b"d\r\n" + OK + b"\r\n", end=b"0\r\nX-Sum: 1\r\nX-B:\r\n\r\n"),
    "chunks and a length": chunked(b"d\r\n" + OK + b"\r\n", lines=[b"Content-Length: 99"]),
    "chunked in capitals": chunked(b"d\r\n" + OK + b"\r\n").replace(b"chunked", b"CHUNKED"),
    "gzip": coded(b"gzip", gzip.compress(OK)),
    "gzip in capitals": coded(b"GZIP", gzip.compress(OK)),
    "x-gzip": coded(b"x-gzip", gzip.compress(OK)),
    "gzip twice": coded(b"gzip, gzip", gzip.compress(gzip.compress(OK))),
    "gzip said twice": plain(b"Content-Encoding: gzip", b"Content-Encoding: gzip", body=gzip.compress(OK)),
    "gzip said and not done": coded(b"gzip", OK),
    "gzip, padded": coded(b"gzip", gzip.compress(OK) + bytes(9)),
    "gzip in chunks": chunked(
        *[b"1\r\n%c\r\n" % byte for byte in gzip.compress(OK)], lines=[b"Content-Encoding: gzip"]
    ),
    "deflate": coded(b"deflate", zlib.compress(OK)),
    "deflate as some do": coded(b"deflate", RAW_DEFLATE),
    "zstd": coded(b"zstd", zstd.compress(OK)),
    "coding identity": coded(b"identity", OK),
    "a coding that is none": coded(b"UTF-8", OK),
    "a mark before it": plain(body=b"\xef\xbb\xbf" + OK),
    "space around": plain(body=b"\r\n  " + OK + b"\n\n"),
    "half a character": plain(body=b'{"errmsg":"abc \\ud83d","errcode":0}'),
    "gb2312": typed("application/json;charset=gb2312", CHINESE, "gbk"),
    "GBK in quotes": typed('text/html; Charset="GBK"', CHINESE, "gbk"),
    "x-gbk, spaced": typed("text/plain; charset = x-gbk; x=y", CHINESE, "gbk"),
    "big5": typed("a/b; charset=big5", CHINESE, "big5"),
    "shift_jis": typed("a/b; charset=Shift_JIS", '{"errcode":0,"m":"\u8868"}', "cp932"),
    "latin1": typed("a/b; charset=latin1", '{"errcode":0,"m":"\u20ac"}', "cp1252"),
    "utf-16": typed("a/b; charset=utf-16", CHINESE, "utf-16"),
    "utf8": typed("a/b; charset=utf8", CHINESE, "utf-8"),
    "a label that is wrong": typed("a/b; charset=utf-16", CHINESE, "utf-8"),
    "a label nobody knows": typed("a/b; charset=x-y", CHINESE, "utf-8"),
    "no label, and GBK": typed("a/b", '{"errcode":0,"m":"\u8ba2\u5355"}', "gbk"),
}

ENDLESS = ("HTTP/1.0 without a length", "no length at all", "transfer coding identity, no length")


def judged(status: int, headers: Headers, body: bytes, *, complete: bool = True) -> Outcome:
    """What an answer means where only errcode 0 is a success."""
    answer = Answer(status, headers, body, complete)
    return classify(answer, rules=[RULE], compressed=True, items=2, wall=1.8e9).outcome


def read(parts: Sequence[bytes]) -> tuple[Outcome, bool]:
    """Read an answer that comes in ``parts`` and ends with its connection; also whether more could follow on that."""
    framing = AnswerFraming(bodiless=False)
    for part in parts:
        framing.feed(part)
    assert framing.feed_end()
    assert framing.head is not None
    headers = Headers(framing.head.fields)
    body, complete = framing.take_body(), True
    if (coding := headers.get("content-encoding")) is not None:
        body, complete = decompress_start(body, coding, 65536)
    lasts = framing.head.lasts and not framing.surplus
    return judged(framing.head.status, headers, body, complete=complete), lasts


@pytest.mark.parametrize("name", ZOO)
def test_read_however_it_is_cut(name: str) -> None:
    """In one piece, in two at every place (of long ones at some), and byte by byte: the same."""
    raw = ZOO[name]
    whole = read([raw])
    assert whole[0] is Outcome.OK
    for at in range(1, len(raw), 1 + len(raw) // 100):
        assert read([raw[:at], raw[at:]]) == whole
    assert read([raw[at : at + 1] for at in range(len(raw))]) == whole


def test_only_those_without_a_length_end_with_the_connection() -> None:
    """The others are complete as soon as they are there: platforms keep connections open."""
    for name, raw in ZOO.items():
        framing = AnswerFraming(bodiless=False)
        framing.feed(raw)
        assert framing.ended is (name not in ENDLESS), name


@settings(max_examples=300)
@given(st.sampled_from(sorted(ZOO)), st.randoms(use_true_random=False))
def test_cut_off_it_is_never_taken_for_whole(name: str, random: object) -> None:
    """An answer whose end is marked is not complete before it, whatever was there already."""
    raw = ZOO[name]
    framing = AnswerFraming(bodiless=False)
    at = random.randrange(len(raw))  # type: ignore[attr-defined]  # a random.Random
    framing.feed(raw[:at])
    if framing.feed_end() and not framing.to_close:
        framing.feed(raw[at:])
        assert framing.surplus is (at < len(raw))


LINES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 C\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\n",
]
BITS = [b"\r\n", b"\n", b" ", b":", b"a", b"0", b"f", b"\x00", b"\xff"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(LINES + BITS), max_size=40))
def test_anything_is_read_or_refused(parts: list[bytes]) -> None:
    """Whatever comes, in whatever pieces: an answer, a part of one, or a refusal in our words; all as in one piece."""

    def outcome(pieces: Sequence[bytes]) -> object:
        framing = AnswerFraming(bodiless=False)
        try:
            for piece in pieces:
                framing.feed(piece)
        except BadAnswer as error:
            return str(error)
        head = framing.head
        return framing.ended, bytes(framing.body), head and (head.status, head.fields, head.lasts), framing.surplus

    assert outcome(parts) == outcome([b"".join(parts)])


async def _served(name: str, cuts: Sequence[int], sender: HttpSender) -> tuple[Outcome, int]:
    """Serve an answer from a real socket, cut at ``cuts``; return what it means and how many requests it took."""
    raw = ZOO[name]
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n{}")
        requests += 1
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            writer.write(raw[start:end])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        answer = await sender.send(Request(url, "POST", {"Content-Type": "application/json"}, b"{}", 30.0))
        assert isinstance(answer, Answer), answer
        assert answer.complete
        return judged(answer.status, Headers(answer.headers.items()), answer.body), requests
    finally:
        server.close()


async def test_served_from_sockets_each_takes_one_attempt() -> None:
    """Each through the sender, in one write."""
    sender = HttpSender(concurrency=1, user_agent="t")
    for name in ZOO:
        assert await _served(name, [], sender) == (Outcome.OK, 1), name
    await sender.close()


@settings(max_examples=60)
@given(st.sampled_from(sorted(ZOO)), st.lists(st.integers(1, 400), max_size=6))
def test_served_from_sockets_in_pieces(name: str, steps: list[int]) -> None:
    """Each through the sender, in several writes."""

    async def run() -> tuple[Outcome, int]:
        sender = HttpSender(concurrency=1, user_agent="t")
        try:
            cuts = sorted({min(sum(steps[: count + 1]), len(ZOO[name]) - 1) for count in range(len(steps))})
            return await _served(name, cuts, sender)
        finally:
            await sender.close()

    assert asyncio.run(run()) == (Outcome.OK, 1)
