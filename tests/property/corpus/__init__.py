"""Inputs that parsers have stumbled over, here or elsewhere; the property tests begin with them and damage them.

To add one, put a file here; its name says what it is about.
"""

from pathlib import Path

from hypothesis import strategies as st

CORPUS = {path.name: path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.txt"))}

_PATCHES = [b'"', b"\\u0000", b"\\ud800", b"{", b"[", b"\xff", b"1e999"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Anything, one of the corpus, or one of it with a piece torn out or put in place of another."""
    whole = draw(st.sampled_from(sorted(CORPUS.values())) | st.binary(max_size=200))
    if draw(st.booleans()):
        return whole
    start = draw(st.integers(0, max(0, len(whole))))
    length = draw(st.integers(0, 20))
    patch = draw(
        st.binary(max_size=12) | st.sampled_from([b'"', b"\\u0000", b"\\ud800", b"{", b"[", b"\xff", b"1e999"])
    )
    return whole[:start] + patch + whole[start + length :]
