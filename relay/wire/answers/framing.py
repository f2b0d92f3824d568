"""Where an HTTP/1 answer begins and ends in a stream of bytes (RFC 9112), read as browsers, curl and Go read it.

Lenient in form: lines that end in LF alone, folded fields, no reason phrase, a length stated twice. Strict in amount:
every part is bounded in bytes, and the bytes are read in time linear in their number, however they are cut.
"""

import re
from collections.abc import Callable
from typing import Final

from relay.core.errors import RelayError

# Go reads 10 MiB, Chrome 256 KiB, curl 300 KB; policies and cookies of tens of KB are common, more is a fault.
MAX_HEAD_BYTES: Final = 1024 * 1024
# A line costs more than its bytes: a million of one byte each would hold the loop for a second.
MAX_HEAD_LINES: Final = 10_000
# As Go's net/http: enough for every 100, 102 and 103 there is; the interim answers share the bound of bytes above.
MAX_INTERIM: Final = 5
_MAX_CHUNK_LINE_BYTES: Final = 4096  # size and extensions; as in Go
# Go's rule as well: framing may cost as much as what it frames and 16 bytes for each chunk, and this much more in all.
_MAX_EXCESS_BYTES: Final = 16 * 1024
_MAX_TRAILER_BYTES: Final = 64 * 1024

_STATUS_LINE: Final = re.compile(rb"HTTP/(\d)\.(\d)[ \t]+(\d{3})(?:[ \t].*)?", re.DOTALL)
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_BEGINS: Final = b"HTTP/"
_DIGITS: Final = re.compile(r"\d{1,18}", re.ASCII)
_BODILESS: Final = (101, 204, 304)  # and the interim ones, which are not handed out


class BadAnswer(RelayError):
    """The bytes are no HTTP answer, or more of one than is read; the message is fixed words, fit for a log."""


class NotHttp(BadAnswer):
    """What came does not begin as an answer does: something else than a web server speaks, or it speaks TLS."""


class AnswerHead:
    """Status and header fields of an answer, names in lower case; ``lasts``: the connection may be used again."""

    __slots__ = ("fields", "lasts", "minor", "status")

    def __init__(self, status: int, minor: int, fields: list[tuple[str, str]]) -> None:
        self.status = status
        self.minor = minor
        self.fields = fields
        said = self.all("connection")
        words = [word.strip() for word in said.lower().split(",")] if said else []
        self.lasts = "close" not in words and (minor > 0 or "keep-alive" in words)

    def all(self, name: str) -> str:
        """Return the values of every field ``name``, joined by commas."""
        return ",".join([value for field, value in self.fields if field == name])


class AnswerFraming:
    """Reads one answer: fed with bytes as they come, it gives back the head and the body.

    ``ended`` is True when the answer is complete; ``surplus`` when bytes came behind it, which nobody asked for.
    """

    __slots__ = (
        *("body", "ended", "head", "surplus", "to_close"),
        *("_bodiless", "_buffer", "_excess", "_interim", "_left", "_lines", "_read", "_scanned", "_seen"),
    )

    def __init__(self, *, bodiless: bool) -> None:
        self.head: AnswerHead | None = None
        self.body = bytearray()  # what was read of it since ``take_body``
        self.ended = False
        self.surplus = False
        self.to_close = False  # it ends where the connection does
        self._bodiless = bodiless  # it answers HEAD
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._scanned = 0  # bytes of the buffer that hold no line end
        self._seen = 0  # bytes of heads, or of trailers
        self._interim = 0
        self._left = 0  # bytes of the body, or of the chunk, still to come
        self._excess = 0
        self._read: Callable[[], bool] = self._read_head

    def feed(self, data: bytes) -> None:
        """Read on. Raises ``BadAnswer``; what was read before it stays."""
        self._buffer += data
        while not self.ended and self._read():
            pass
        if self.ended and self._buffer:
            self.surplus = True
            self._buffer.clear()

    def take_body(self) -> bytes:
        """Return the part of the body that was read since the last call."""
        part = bytes(self.body)
        self.body.clear()
        return part

    def feed_end(self) -> bool:
        """The connection ended; return whether the answer is complete with that."""
        if self.to_close and not self.ended:
            self.ended = True
        return self.ended

    def _line(self, most: int, what: str, bound: int) -> bytes | None:
        """Take the next line without its end, or None when it is not all there; ``most`` is what ``bound`` leaves."""
        at = self._buffer.find(b"\n", self._scanned, most)
        if at < 0:
            self._scanned = len(self._buffer)
            if len(self._buffer) >= most:
                raise BadAnswer(f"{what} is longer than {bound} bytes")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        self._scanned = 0
        self._seen += at + 1
        return line.removesuffix(b"\r")

    def _read_head(self) -> bool:
        line = self._line(max(1, MAX_HEAD_BYTES - self._seen), "the answer's head", MAX_HEAD_BYTES)
        if line is None:
            if not self._lines and not _BEGINS.startswith(bytes(self._buffer[: len(_BEGINS)].lstrip(b"\r"))):
                raise NotHttp("the answer is not HTTP")  # what speaks something else may never end a line
            return False
        if line:
            self._lines.append(line)
            if len(self._lines) == 1 and _STATUS_LINE.fullmatch(line) is None:
                raise NotHttp("the answer is not HTTP")
            if len(self._lines) > MAX_HEAD_LINES:
                raise BadAnswer(f"the answer's head has more than {MAX_HEAD_LINES} lines")
        elif self._lines:  # empty lines before the status line are skipped (RFC 9112 section 2.2)
            lines, self._lines = self._lines, []
            self._begin(_head_of(lines))
        return True

    def _begin(self, head: AnswerHead) -> None:
        """Decide how the body ends (RFC 9112 section 6.3)."""
        if 100 <= head.status < 200 and head.status != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadAnswer(f"more than {MAX_INTERIM} interim answers came before the answer")
            return
        self._seen = 0
        codings = [word.strip() for word in head.all("transfer-encoding").lower().split(",")]
        codings = [word for word in codings if word and word != "identity"]  # as RFC 2616 had it
        length = _length_of(head) if not codings else None
        self.head = head
        if self._bodiless or head.status in _BODILESS or length == 0:
            self.ended = True
        elif length is not None:
            self._left = length
            self._read = self._read_sized
        elif codings and codings[-1] == "chunked":
            head.lasts = head.lasts and not head.all("content-length")
            self._read = self._read_chunk_line
        else:
            head.lasts = False
            self.to_close = True
            self._read = self._read_to_close
        if head.status == 101:
            head.lasts = False  # nobody asked to switch

    def _read_to_close(self) -> bool:
        self.body += self._buffer
        self._buffer.clear()
        return False

    def _read_sized(self) -> bool:
        self._take()
        self.ended = not self._left
        return False

    def _take(self) -> None:
        part = self._buffer[: self._left]
        del self._buffer[: self._left]
        self.body += part
        self._left -= len(part)

    def _read_chunk_line(self) -> bool:
        line = self._line(_MAX_CHUNK_LINE_BYTES, "a chunk's size line", _MAX_CHUNK_LINE_BYTES)
        if line is None:
            return False
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise BadAnswer("the answer's chunks cannot be told apart")
        self._left = int(found[1], 16)
        self._excess = max(0, self._excess + len(line) + 4 - 16 - 2 * self._left)
        if self._excess > _MAX_EXCESS_BYTES:
            raise BadAnswer("the answer's chunks hold more framing than data")
        self._seen = 0
        self._read = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take()
        if self._left:
            return False
        line = self._line(_MAX_CHUNK_LINE_BYTES, "a chunk's end", _MAX_CHUNK_LINE_BYTES)
        if line is None:
            return False
        if line:
            raise BadAnswer("the answer's chunks cannot be told apart")
        self._read = self._read_chunk_line
        return True

    def _read_trailer(self) -> bool:
        line = self._line(max(1, _MAX_TRAILER_BYTES - self._seen), "the answer's trailer", _MAX_TRAILER_BYTES)
        self.ended = line == b""
        return line is not None


def _head_of(lines: list[bytes]) -> AnswerHead:
    status = _STATUS_LINE.fullmatch(lines[0])
    assert status is not None  # checked as it came
    fields: list[tuple[str, str]] = []
    folded: list[str] = []  # the lines of the last field's value
    name = ""
    for raw in lines[1:]:
        line = raw.decode("utf-8", "replace")
        if line[0] in " \t":  # folded (RFC 9112 section 5.2)
            folded.append(line.strip(" \t"))
            continue
        if name:
            fields.append((name, folded[0] if len(folded) == 1 else " ".join(folded)))
        name, colon, value = line.partition(":")
        name = name.strip(" \t").lower() if colon else ""  # a line without a colon names nothing
        folded = [value.strip(" \t")]
    if name:
        fields.append((name, folded[0] if len(folded) == 1 else " ".join(folded)))
    # A major version other than 1 in this form is 1.x by another name; what it says of the connection is not relied on.
    minor = int(status[2]) if status[1] == b"1" else 0
    return AnswerHead(int(status[3]), minor, fields)


def _length_of(head: AnswerHead) -> int | None:
    """Return the length of the body where it is stated: once, or several times alike (RFC 9110 section 8.6)."""
    stated = {word.strip() for word in head.all("content-length").split(",")} - {""}
    if not stated:
        return None
    if not all(_DIGITS.fullmatch(word) for word in stated):
        raise BadAnswer("the answer's Content-Length is no number")
    lengths = {int(word) for word in stated}
    if len(lengths) > 1:
        raise BadAnswer("the answer states more than one Content-Length")
    return lengths.pop()
