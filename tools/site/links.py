"""Links of the laid-out pages that lead nowhere: no such page, no such file, no such heading."""

from pathlib import Path

from tools.site.pages import LINK, anchors_of, prose_and_code


def dead_links(site: Path) -> list[str]:
    """Return each link of a language's pages, as ``page: link``, that finds nothing in that folder."""
    prose = {
        page: "".join(part for is_prose, part in prose_and_code(page.read_text("utf-8")) if is_prose)
        for page in sorted(site.rglob("*.md"))
    }
    anchors = {page.resolve(): set(anchors_of(page)) for page in prose}
    found = []
    for page, text in prose.items():
        for _, _, link in LINK.findall(text):
            path, _, anchor = link.partition("#")
            file = (page.parent / path).resolve() if path else page.resolve()
            if ":" in link or not file.is_relative_to(site.resolve()):
                continue  # the web, or the site in the other language
            if not file.is_file() or (anchor and anchor not in anchors.get(file, {anchor})):
                found.append(f"{page.relative_to(site)}: {link}")
    return found
