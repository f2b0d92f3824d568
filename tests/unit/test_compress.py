"""Content codings: what is sent, and what strangers may send."""

import gzip
import os
import tracemalloc
import zlib

import pytest
from backports import zstd
from relay.wire.compress import (
    BadEncoding,
    TooLarge,
    UnsupportedEncoding,
    compress,
    decompress,
    decompress_start,
)

BODY = b'{"order":"A1","state":"paid"}' * 100


@pytest.mark.parametrize(("codec", "foreign"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
def test_others_can_read_what_we_compress(codec: str, foreign: object) -> None:
    """The usual decoders give the body back, and so does ours."""
    coded, encoding = compress(BODY, codec)
    assert encoding == codec
    assert len(coded) < len(BODY) / 5
    assert callable(foreign)
    assert foreign(coded) == BODY
    assert decompress(coded, codec, len(BODY)) == BODY


def test_the_same_body_gives_the_same_bytes() -> None:
    """A batch sent again is identical on the wire: no time stands in the gzip header."""
    assert compress(BODY, "gzip")[0] == compress(BODY, "gzip")[0]
    assert compress(BODY, "gzip")[0][4:8] == bytes(4)


def test_small_or_incompressible_bodies_go_plain() -> None:
    """Below 1 KiB, or where coding would not make it shorter, the body goes as it is."""
    noise = os.urandom(5000)
    assert compress(b"x" * 1023, "gzip") == (b"x" * 1023, None)
    assert compress(b"x" * 1024, "gzip")[1] == "gzip"
    assert compress(noise, "gzip") == (noise, None)
    assert compress(noise, "zstd") == (noise, None)
    assert compress(BODY, "none") == (BODY, None)


def test_unknown_codec_is_refused() -> None:
    """A mistake in wiring is loud, also for a body too small to be compressed."""
    with pytest.raises(ValueError, match="none, gzip, zstd"):
        compress(b"", "br")


@pytest.mark.parametrize("codec", ["gzip", "x-gzip", " GZIP "])
def test_gzip_by_any_name(codec: str) -> None:
    """Content-Encoding is looked up as HTTP says: in any case, with the old alias."""
    assert decompress(gzip.compress(BODY), codec, 10_000) == BODY


@pytest.mark.parametrize("codec", ["br", "deflate", "gzip, gzip"])
def test_unsupported_codings(codec: str) -> None:
    """Other codings and stacked ones are named unsupported."""
    with pytest.raises(UnsupportedEncoding):
        decompress(b"", codec, 10)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_members_are_joined(pack: object) -> None:
    """Concatenated members decode to the concatenation, whatever their sizes."""
    assert callable(pack)
    parts = [b"", b"a", BODY, b"", os.urandom(3000), b"z" * 200_000]
    codec = "gzip" if pack is gzip.compress else "zstd"
    assert decompress(b"".join(pack(part) for part in parts), codec, 1_000_000) == b"".join(parts)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "identity"])
def test_limit_is_exact(codec: str) -> None:
    """A body of just the limit passes, one byte more does not."""
    coded = compress(BODY, codec)[0] if codec != "identity" else BODY
    assert decompress(coded, codec, len(BODY)) == BODY
    with pytest.raises(TooLarge):
        decompress(coded, codec, len(BODY) - 1)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit(codec: str) -> None:
    """200 MB of zeros in some KB are refused with little more than the limit in memory."""
    zeros = bytes(20_000_000)
    member = gzip.compress(zeros) if codec == "gzip" else zstd.compress(zeros)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(member * 10, codec, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_broken_bodies(codec: str) -> None:
    """Cut off, damaged, followed by garbage, or something else altogether: bad encoding."""
    coded = compress(BODY, codec)[0]
    damaged = bytearray(gzip.compress(BODY) if codec == "gzip" else zstd.compress(BODY, options=CHECKSUM))
    damaged[-6 if codec == "gzip" else -2] ^= 0xFF
    for bad in (coded[:-1], coded[:10], coded + b"garbage!" * 4, b"hello, world" * 3, bytes(damaged)):
        with pytest.raises(BadEncoding):
            decompress(bad, codec, 100_000)


CHECKSUM = {zstd.CompressionParameter.checksum_flag: 1}


def test_zlib_is_not_gzip() -> None:
    """A bare zlib stream under the name gzip is refused."""
    with pytest.raises(BadEncoding):
        decompress(zlib.compress(BODY), "gzip", 100_000)


def test_huge_zstd_window_is_refused() -> None:
    """A frame that asks for 128 MiB of window is refused before it gets them."""
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=options)
    frame = compressor.compress(BODY) + compressor.flush()
    with pytest.raises(BadEncoding):
        decompress(frame, "zstd", 100_000)


@pytest.mark.parametrize("empty", [gzip.compress(b""), zstd.compress(b"")], ids=["gzip", "zstd"])
def test_swarms_of_members_are_refused(empty: bytes) -> None:
    """Tens of thousands of empty members decode in linear time, and past a number not at all."""
    codec = "gzip" if empty[:2] == b"\x1f\x8b" else "zstd"
    assert decompress(empty * 9_000, codec, 10) == b""
    with pytest.raises(BadEncoding, match="members"):
        decompress(empty * 20_000, codec, 10)


def test_start_of_a_broken_body() -> None:
    """For answers: what could be decoded, and whether it is everything."""
    coded = gzip.compress(BODY)
    assert decompress_start(coded, "gzip", 10_000) == (BODY, True)
    assert decompress_start(coded, "gzip", 10) == (BODY[:10], False)
    assert decompress_start(coded[:-4], "gzip", 10_000) == (BODY, False)
    assert decompress_start(b"plain", "identity", 3) == (b"pla", False)


_RAW = zlib.compressobj(wbits=-15)
CLAIMED = {
    "in any case": (gzip.compress(BODY), "GZIP"),
    "the old alias": (gzip.compress(BODY), "x-gzip"),
    "with identity": (gzip.compress(BODY), "identity, gzip"),
    "members": (gzip.compress(BODY[:100]) + gzip.compress(BODY[100:]), "gzip"),
    "padded": (gzip.compress(BODY) + bytes(20), "gzip"),
    "stacked": (gzip.compress(zstd.compress(BODY)), "zstd, gzip"),
    "doubled": (gzip.compress(gzip.compress(BODY)), "gzip,gzip"),
    "said twice, done once": (gzip.compress(BODY), "gzip, gzip"),
    "said and not done": (BODY, "gzip"),
    "zlib": (zlib.compress(BODY), "deflate"),
    "deflate without zlib's header": (_RAW.compress(BODY) + _RAW.flush(), "deflate"),
    "deflate said and not done": (BODY, "deflate"),
    "a charset where the coding stands": (BODY, "UTF-8"),
    "nobody knows it": (BODY, "x-whatever"),
}


@pytest.mark.parametrize("claim", CLAIMED)
def test_codings_of_answers_are_claims(claim: str) -> None:
    """What a browser or curl reads, whatever Content-Encoding says, is read; the bound holds all the same."""
    body, codec = CLAIMED[claim]
    assert decompress_start(body, codec, len(BODY)) == (BODY, True)
    start, whole = decompress_start(body, codec, 10)
    assert (BODY.startswith(start), len(start) <= 10, whole) == (True, True, False)


def test_stacked_bombs_stay_within_the_bound() -> None:
    """A bomb in a bomb gives no more at any stage; a coding named a thousand times costs four."""
    bomb = gzip.compress(gzip.compress(bytes(20_000_000)))
    tracemalloc.start()
    try:
        assert decompress_start(bomb, ", ".join(["gzip"] * 1000), 50_000) == (bytes(50_000), False)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
