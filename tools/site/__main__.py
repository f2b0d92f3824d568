"""``python -m tools.site``: docs/ as a site, below build/site/en and build/site/zh-CN."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.site.pages import LANGUAGES, ROOT, lay_out
from tools.site.reference import write_reference

_HERE = Path(__file__).parent
_SITE = ROOT / "build" / "site"
_START = (
    '<!doctype html><meta charset="utf-8"><title>relay</title><a href="en/">English</a> <a href="zh-CN/">中文</a>\n'
)


def main() -> None:
    """Lay out, write the reference, and have Zensical build each language."""
    shutil.rmtree(_SITE, ignore_errors=True)
    for language in LANGUAGES:
        source = _SITE / "source" / language
        lay_out(language, source)
        write_reference(language, source / "reference")
        config = _SITE / f"zensical.{language}.toml"
        shutil.copyfile(_HERE / config.name, config)
        zensical = Path(sys.executable).with_name("zensical")
        subprocess.run([zensical, "build", "--strict", "--config-file", config], check=True, env=os.environ)
    (_SITE / "index.html").write_text(_START, encoding="utf-8")
    print(f"open {_SITE / 'index.html'}, or: {sys.executable} -m http.server --directory {_SITE}")


if __name__ == "__main__":
    main()
