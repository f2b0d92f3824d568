"""The way of the READMEs from nothing to the first delivered callback and dead letter, word for word."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?:sh|yaml)\n(.*?)^```$", re.M | re.S)
# In a network of its own, because the addresses are as written. When the script ends, so does all it started.
ALONE = ["timeout", "80", "unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-euc"]

SETTING = """
ip link set lo up
until_shown() { until relay ls | grep -q "$1"; do sleep 0.2; done; relay ls; }
answers() { until curl -so answer "$1"; do sleep 0.2; done; }
"""
FIRST = """
( {first_terminal} ) &
export PATH="$PWD/.venv/bin:$PATH"
answers http://127.0.0.1:8787/readyz
{post}
until_shown 'shop-a *delivered *991'
"""
SHOP = """
export PATH="$PWD/.venv/bin:$PATH"
relay sandbox &
answers http://127.0.0.1:8790/_sandbox/stats
( {first_terminal} ) &
answers http://127.0.0.1:8787/readyz
{send}
until_shown 'my-shop *delivered *992'
{poison}
until_shown 'my-shop *dead *993'
relay dead ls
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
    pytest.mark.timeout(120),
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
