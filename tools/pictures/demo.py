"""Record ``relay demo`` as a picture: ``python -m tools.pictures.demo docs/img/demo.svg``.

The demo runs in a terminal of 108 columns of its own; what it printed is drawn, with its colours, by rich.
"""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import sysconfig
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 108


def recorded(command: list[str]) -> str:
    """Return all that ``command`` prints on a terminal, escape sequences included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    variables = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as running:
        os.close(theirs)
        printed = io.BytesIO()
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: the last one who had the terminal open has ended
                break
            printed.write(piece)
        if running.wait():
            raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return printed.getvalue().decode().replace("\r\n", "\n")


def drawn(text: str, title: str) -> str:
    """Return an SVG of a terminal that shows ``text``; its fonts are those of the reader's machine."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="256")
    console.print(Text.from_ansi("$ relay demo\n" + text))
    return console.export_svg(title=title, theme=MONOKAI, code_format=_without_downloads(CONSOLE_SVG_FORMAT))


def _without_downloads(form: str) -> str:
    """Return rich's template without the fonts that a browser would fetch from elsewhere."""
    kept: list[str] = []
    inside = False
    for line in form.splitlines():
        inside = inside or "@font-face" in line
        if not inside:
            kept.append(line.replace("Fira Code", "ui-monospace, Menlo, Consolas"))
        inside = inside and "}}" not in line
    return "\n".join(kept)


if __name__ == "__main__":
    relay = Path(sysconfig.get_path("scripts")) / "relay"
    Path(sys.argv[1]).write_text(drawn(recorded([str(relay), "demo"]), "relay demo"), encoding="utf-8")
