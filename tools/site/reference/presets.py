"""Every preset, as ``relay presets show NAME`` prints it."""

from relay.config.reading.presets import preset, preset_names
from tools.site.reference.words import Words, prose


def page(words: Words) -> str:
    """Return the page: a section for each preset with its whole file, sources included."""
    parts: list[str] = []
    for name in preset_names():
        found = preset(name)
        parts.append(f"## {name}\n\n{prose(found.title)}\n\n```yaml\n{found.text}```\n\n")
    return "".join(parts)
