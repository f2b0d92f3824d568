"""Content codings of request bodies, both ways: gzip (RFC 1952) by isal, zstd (RFC 8878) by libzstd.

Decoding is for bodies of strangers: bounded in what it gives out, linear in what it takes in.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Final, Literal, Protocol

from isal import igzip, igzip_lib

from relay.core.errors import RelayError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Codec = Literal["none", "gzip", "zstd"]
CODECS: Final = ("none", "gzip", "zstd")

# Below this a coding's header and the platform's work outweigh the few bytes saved (SPEC 5: "from 1 KiB on").
MIN_COMPRESS_BYTES: Final = 1024
# isal level 1 packed 500 callbacks 24.7 times smaller in 0.05 ms; zlib's level 6 takes ten times as long.
_GZIP_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3
# RFC 8878 section 3.1.1.1.2 recommends 8 MiB (2^23) as the window every decoder supports; more only costs memory.
_ZSTD_WINDOW_LOG_MAX: Final = 23
# A member costs a decoder of its own. Honest bodies have a handful; 20-byte empty ones are an attack on the CPU.
_MAX_MEMBERS: Final = 10_000
_PLAIN: Final = ("", "none", "identity")
_MAX_CODINGS: Final = 4  # one is usual, two are a mistake somebody makes
_ZLIB_DEFLATE: Final = 8
_TEXT_STARTS: Final = (b"{", b"[", b"<", b'"', b" ", b"\n", b"\r", b"\xef")
_FIRST_PIECE_BYTES: Final = 512
_MAX_PIECE_BYTES: Final = 1 << 20


_GZIP_ERROR: Final[type[Exception]] = igzip_lib.IsalError  # type: ignore[assignment]  # isal's stub says Exception
_BROKEN: Final = (_GZIP_ERROR, zstd.ZstdError, EOFError)


class BadEncoding(RelayError):
    """The body is not what its Content-Encoding says, or ends early."""


class UnsupportedEncoding(RelayError):
    """The Content-Encoding is none the relay decodes."""


class TooLarge(RelayError):
    """The decoded body exceeds the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the decoded body exceeds {limit} bytes")
        self.limit = limit


class _Decoder(Protocol):
    """What isal's and zstd's incremental decoders share."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def compress(body: bytes, codec: str) -> tuple[bytes, str | None]:
    """Return the body to send and its Content-Encoding; None when it goes as it is.

    It goes as it is for codec ``none``, below 1 KiB, and where coding would make it longer. The same body always
    gives the same bytes, so a batch sent again is identical on the wire. Raises ``ValueError`` for an unknown codec.
    """
    if codec == "none":
        return body, None
    if codec not in CODECS:
        raise ValueError(f"compress {codec!r} does not exist; use one of {', '.join(CODECS)}")
    if len(body) < MIN_COMPRESS_BYTES:
        return body, None
    coded: bytes
    if codec == "gzip":
        coded = igzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0)
    else:
        coded = zstd.compress(body, level=_ZSTD_LEVEL)
    return (coded, codec) if len(coded) < len(body) else (body, None)


def _gzip_decoder() -> _Decoder:
    decoder: _Decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decoder


def _zstd_decoder() -> _Decoder:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG_MAX})


def _zlib_decoder() -> _Decoder:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)


def _deflate_decoder() -> _Decoder:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)


_DECODERS: Final[dict[str, Callable[[], _Decoder]]] = {
    "gzip": _gzip_decoder,
    "x-gzip": _gzip_decoder,  # RFC 9110 section 8.4.1.3: to be taken as gzip
    "zstd": _zstd_decoder,
}


_MARKS: Final = {"gzip": b"\x1f\x8b", "x-gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


def decompress(body: bytes, codec: str, limit: int) -> bytes:
    """Return ``body`` decoded, at most ``limit`` bytes; raises as ``decode_pieces`` does."""
    parts = list(decode_pieces(body, codec, limit))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode_pieces(body: bytes, codec: str, limit: int, most_bytes: int = sys.maxsize) -> Iterator[bytes]:
    """Decode ``body`` piece by piece, each of ``most_bytes`` at the most; ``codec`` is a Content-Encoding value.

    Concatenated gzip members and zstd frames are decoded in time linear in the body. Raises, also before the first
    piece, ``UnsupportedEncoding``, ``BadEncoding`` (broken, ends early, too many members) and ``TooLarge`` (never more
    than ``limit + 1`` bytes are produced before it).
    """
    name = codec.strip().lower()
    if name in _PLAIN:
        if len(body) > limit:
            raise TooLarge(limit)
        yield body
        return
    new_decoder = _DECODERS.get(name)
    if new_decoder is None:
        raise UnsupportedEncoding("this Content-Encoding is not supported; use gzip, zstd or none")
    size = 0
    try:
        for piece in _decoded(body, new_decoder, limit + 1, most_bytes):
            size += len(piece)
            if size > limit:
                raise TooLarge(limit)
            yield piece
    except _BROKEN as error:
        raise BadEncoding(f"the body is not valid {name}: {error}") from error


def decompress_start(body: bytes, codec: str, limit: int) -> tuple[bytes, bool]:
    """Return the first ``limit`` bytes of ``body`` decoded, and whether they are all of it; raises nothing.

    For answers, of which a start is worth reading even when the rest is cut off or broken. Codings may be stacked
    (RFC 9110 section 8.4). Their names are claims: what does not begin as its coding does is taken as it is, so are
    names nobody knows.
    """
    whole = True
    names = [name.strip().lower() for name in codec.split(",", _MAX_CODINGS)[:_MAX_CODINGS]]
    for name in reversed(names):
        found = _begins(name, body)
        if found is None:
            continue
        new_decoder, mark = found
        parts: list[bytes] = []
        try:
            parts.extend(_decoded(body, new_decoder, limit + 1, mark=mark))
        except (BadEncoding, *_BROKEN):
            whole = False
        body = b"".join(parts)
        whole = whole and len(body) <= limit
    return body[:limit], whole and len(body) <= limit


def _begins(name: str, body: bytes) -> tuple[Callable[[], _Decoder], bytes] | None:
    """Return what decodes ``body``, where it begins as the coding ``name`` does, and how each member begins."""
    if name == "deflate" and len(body) > 1:
        # RFC 9110 section 8.4.1.2: with zlib's header, and some leave that out. Its two bytes are a multiple of 31.
        if body[0] & 0x0F == _ZLIB_DEFLATE and (body[0] << 8 | body[1]) % 31 == 0:
            return _zlib_decoder, body[:2]
        return None if body[:1] in _TEXT_STARTS else (_deflate_decoder, body[:1])
    mark = _MARKS.get(name)
    return (_DECODERS[name], mark) if mark is not None and body.startswith(mark) else None


def _decoded(
    body: bytes,
    new_decoder: Callable[[], _Decoder],
    most: int,
    most_at_once: int = sys.maxsize,
    *,
    mark: bytes = b"",
) -> Iterator[bytes]:
    """Decode member after member, giving ``most`` bytes in all and ``most_at_once`` at a time at the most.

    What begins with no ``mark`` is padding.

    A finished member hands back what it did not use as a copy. Pieces therefore start small and double within a
    member, so that the copies of all members together stay linear in the body, however many empty ones there are.
    """
    offset = 0
    members = 0
    while offset < len(body) and body.startswith(mark, offset):
        members += 1
        if members > _MAX_MEMBERS:
            raise BadEncoding(f"the body is made of more than {_MAX_MEMBERS} compressed members")
        decoder = new_decoder()
        piece_bytes = _FIRST_PIECE_BYTES
        while not decoder.eof:
            piece = b""
            if decoder.needs_input:
                piece = body[offset : offset + piece_bytes]
                if not piece:
                    raise EOFError("it ends early")
                offset += len(piece)
                piece_bytes = min(2 * piece_bytes, _MAX_PIECE_BYTES)
            part = decoder.decompress(piece, min(most, most_at_once))
            if part:
                yield part
            elif not piece and not decoder.needs_input and not decoder.eof:
                raise EOFError("it goes nowhere")  # nothing more comes of it, and nothing more is wanted
            most -= len(part)
            if most <= 0:
                return
        offset -= len(decoder.unused_data)
