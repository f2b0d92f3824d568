"""The reference, made from the code that it describes: one page for each kind of name, in both languages."""

from collections.abc import Callable
from pathlib import Path

from tools.site.reference import api, codes, commands, configuration, presets, telemetry
from tools.site.reference.words import Words

PAGES: dict[str, Callable[[Words], str]] = {
    "configuration.md": configuration.page,
    "commands.md": commands.page,
    "api.md": api.page,
    "metrics.md": telemetry.metrics_page,
    "log-events.md": telemetry.events_page,
    "codes.md": codes.page,
    "presets.md": presets.page,
}
"""What writes each page, below its head (heads/NAME.LANGUAGE.md)."""

_HEADS = Path(__file__).with_name("heads")


def write_reference(language: str, target: Path) -> Words:
    """Write every page below ``target``; return the words, which then know what was asked of them."""
    words = Words(language)
    target.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        head = (_HEADS / f"{name.removesuffix('.md')}.{language}.md").read_text(encoding="utf-8")
        (target / name).write_text(head + page(words), encoding="utf-8")
    return words
