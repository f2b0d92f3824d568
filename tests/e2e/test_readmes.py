"""What the READMEs, the tutorial and the how-tos tell a reader to type, word for word.

Their Chinese pages show the same blocks (tests/unit/test_docs.py), so only the English ones are run.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:sh|yaml)\n(.*?)^```$", re.M | re.S)
STEP = re.compile(r"^( *)```(sh|yaml)\n(.*?)^\1```$", re.M | re.S)
"""A block of a page that is run from top to bottom, perhaps below an item of a list: its indentation, kind and text."""
# In a network of its own, because the addresses are as written. When the script ends, so does all it started.
ALONE = ["timeout", "240", "unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-euc"]

# To wait, the API is asked: a command would take half a second of CPU for each look.
SETTING = """
ip link set lo up
until_shown() {
    until listed "state=$2&key=$3" | grep -q '"id"'; do sleep 0.2; done
    relay ls | tee seen
    grep -q "$1 *$2 *$3" seen
}
listed() { curl -s "http://127.0.0.1:8788/v1/callbacks?$1"; }
answers() { until curl -so answer "$1"; do sleep 0.2; done; }
"""
FIRST = """
( {first_terminal} ) &
export PATH="$PWD/.venv/bin:$PATH"
answers http://127.0.0.1:8787/readyz
{post}
until_shown shop-a delivered 991
"""
SHOP = """
export PATH="$PWD/.venv/bin:$PATH"
relay sandbox &
answers http://127.0.0.1:8790/_sandbox/stats
( {first_terminal} ) &
answers http://127.0.0.1:8787/readyz
{send}
until_shown my-shop delivered 992
{poison}
until_shown my-shop dead 993
relay dead ls
"""

HELPERS = """
export PATH="$PWD/.venv/bin:$PATH"
settled() { until listed state=pending | grep -qF '"items":[]'; do sleep 0.2; done; }
"""


def _networks() -> bool:
    return subprocess.run([*ALONE, "ip link set lo up"], capture_output=True, check=False).returncode == 0


def _block(readme: str, having: str) -> str:
    """Return the first block of the page that has this text."""
    blocks: list[str] = BLOCK.findall((ROOT / readme).read_text("utf-8"))
    return next(block for block in blocks if having in block)


def _shown(directory: Path, script: str) -> str:
    """Run a script beside config.yaml, with this environment as ``.venv``; return what it prints."""
    (directory / ".venv").mkdir()
    (directory / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (directory / "config.yaml").write_text((ROOT / "config.yaml").read_text("utf-8"))
    output = directory / "output"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    with output.open("wb") as file:
        command = [*ALONE, SETTING + script]
        ended = subprocess.run(command, cwd=directory, env=env, stdout=file, stderr=file, check=False)
    text = output.read_text(errors="replace")
    assert ended.returncode == 0, text
    return text


pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not _networks(), reason="needs a network namespace: run it as root"),
]


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_first_callback_is_delivered(tmp_path: Path, readme: str) -> None:
    """Check, stand-in and daemon in one terminal, the post in the other."""
    terminal, post = _block(readme, "relay run -c config.yaml"), _block(readme, "curl -i")

    shown = _shown(tmp_path, FIRST.format(first_terminal=terminal, post=post))

    assert "config.yaml: ok" in shown
    assert "202 Accepted" in shown


def test_a_platform_of_ones_own_in_chinese(tmp_path: Path) -> None:
    """Its file is written, checked and run; a callback is delivered, and a poisoned one is the first dead letter."""
    readme = "README.zh-CN.md"
    (tmp_path / "shop.yaml").write_text(_block(readme, "my-shop:"))
    terminal = _block(readme, "relay run -c shop.yaml")
    send, poison = _block(readme, "relay send my-shop --idempotency-key order-992"), _block(readme, '"poison": true')

    shown = _shown(tmp_path, SHOP.format(first_terminal=terminal, send=send, poison=poison))

    assert "shop.yaml: ok" in shown
    assert re.search(r"my-shop *dead *993 .* rejected: 400 Bad Request", shown)


SHOWN = {
    "tutorial.md": ["shop.yaml: ok, 1 platform", "202 Accepted", "500 accepted", "rejected: 400", "rate .* -> 1/3s"],
    "how-to/connect-a-platform.md": ["wechat-shipping", "shop-wx +delivered +42"],
    "how-to/find-a-limit.md": ["200 accepted", "learned +nothing so far"],
    "how-to/read-a-dead-letter.md": ["400 Bad Request - ", "1 of 1 retried|1 of 1", "1 of 1 dropped"],
    "how-to/several-hosts.md": ["hosts.yaml: ok, 1 platform"],
    "how-to/rotate-keys.md": [" wrapped with ", "former, wraps 0 data keys"],
    "how-to/reconcile.md": ["behind +7 +not_posted", "missing +8 +not_posted"],
    "how-to/alert-a-robot.md": ["ops took the drill"],
}
"""The pages that are run from top to bottom, and what must then have been shown."""


def _steps(page: str) -> str:
    """Return a page as a script. YAML becomes the file that its first line names; where nothing runs, it is checked.

    What keeps a terminal runs beside, and the relay must be ready before the next block. After a block that only sends,
    all that can be sent is waited for.
    """
    steps = [HELPERS]
    for indent, kind, block in STEP.findall((ROOT / "docs" / page).read_text("utf-8")):
        text = textwrap.dedent(block) if indent else block
        if kind == "yaml":
            name = text.partition("\n")[0].removeprefix("# ")
            steps.append(f"cat > {name} <<'END'\n{text}END")
        elif "relay run" in text:
            steps.append(f"( {text} ) &\nanswers http://127.0.0.1:8787/readyz")
        else:
            waits = any(word in text.splitlines()[-1] for word in ("relay send", "relay dead retry"))
            steps += [text, "settled"] if waits else [text]
    return "\n".join(steps if any("relay run" in step for step in steps) else [*steps, f"relay config check {name}"])


@pytest.mark.parametrize("page", SHOWN)
def test_a_page_from_top_to_bottom(tmp_path: Path, page: str) -> None:
    """Every block of commands and of YAML does what the page says."""
    shown = _shown(tmp_path, _steps(page))

    assert [text for text in SHOWN[page] if not re.search(text, shown)] == [], shown


def test_all_how_tos_are_run() -> None:
    """None is left out."""
    pages = {f"how-to/{path.name}" for path in (ROOT / "docs/how-to").glob("*.md") if ".zh-CN" not in path.name}

    assert pages == set(SHOWN) - {"tutorial.md"}
