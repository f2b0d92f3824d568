"""What the commands say, in the user's language: the English stands in the code, its Chinese in a file beside this one.

The file holds ``{English: Chinese}``. A sentence that is not in it is said in English; the tests say which are missing.
"""

import json
from functools import cache
from importlib.resources import files

from relay.cli.words.language import spoken


def say(sentence: str, /, **values: object) -> str:
    """Return a sentence in the language that is spoken, its ``{names}`` filled in with ``values``.

    ``say("{name} is gone", name="edge-1")`` is ``edge-1 is gone``, or ``edge-1 已离线``. Not every value need stand in
    both languages: English wants ``platforms="2 platforms"`` where Chinese takes ``n=2``.
    """
    known = _chinese() if spoken() == "zh-CN" else {}
    return known.get(sentence, sentence).format(**values)


@cache
def _chinese() -> dict[str, str]:
    return dict(json.loads((files(__package__) / "sentences.zh-CN.json").read_text(encoding="utf-8")))
