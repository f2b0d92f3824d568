"""Regular expressions of the configuration over texts that a platform chose: their time grows with the text alone.

RE2 (https://github.com/google/re2) searches without going back: "(\\d+) seconds" over 60,000 digits takes microseconds,
where Python's own engine took 15 s. The price is that look-around and back-references, which cannot be searched that
way, are refused when the configuration is read. It is loaded where a rule has a pattern, and only then.
"""

from typing import Any, Final

MAX_TEXT_CHARS: Final = 4 * 1024
"""So much of a text is searched: what a rule looks for stands at its start, and even RE2 has slow patterns."""
_MAX_PROGRAM_BYTES: Final = 64 * 1024  # then the slowest pattern takes 70 ms for such a text


class Pattern:
    """A compiled regular expression; equal to another one of the same text. Raises ``ValueError`` saying why not."""

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        import re2

        options = re2.Options()
        options.log_errors, options.max_mem = False, _MAX_PROGRAM_BYTES
        try:
            self._compiled: Any = re2.compile(pattern, options)
        except (re2.error, UnicodeEncodeError) as error:
            why = error.args[0] if error.args and isinstance(error.args[0], bytes) else b"it is not text"
            raise ValueError(why.decode("utf-8", "replace")) from None
        self.pattern = pattern

    def __eq__(self, other: object) -> bool:
        return self.pattern == other.pattern if isinstance(other, Pattern) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Pattern({self.pattern!r})"

    def search(self, text: str) -> str | None:
        """Return what its first group matches (without groups: what it matches as a whole), or None."""
        found = self._compiled.search(text[:MAX_TEXT_CHARS].encode("utf-8", "replace"))
        if found is None:
            return None
        matched: bytes | None = found[1 if self._compiled.groups else 0]
        return None if matched is None else matched.decode("utf-8", "replace")

    def matches(self, text: str) -> bool:
        """Tell whether it matches anywhere in ``text``."""
        return self._compiled.search(text[:MAX_TEXT_CHARS].encode("utf-8", "replace")) is not None
