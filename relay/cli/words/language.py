"""The language in which the command line speaks: English, or Chinese where the user's locale is one."""

import json
import os
from importlib.resources import files


def spoken() -> str:
    """Return ``zh-CN`` where LC_ALL, LC_MESSAGES or LANG, the first that is set, names a Chinese locale; else ``en``.

    For example ``LANG=zh_CN.UTF-8``. Codes, keys, states and ids are the same in both.
    """
    chosen = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    return "zh-CN" if chosen.lower().startswith("zh") else "en"


def command_summaries() -> dict[str, str]:
    """Return what each command does, by its name, in Chinese."""
    return dict(json.loads((files(__package__) / "commands.zh-CN.json").read_text(encoding="utf-8")))
