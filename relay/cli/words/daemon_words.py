"""What others than the commands say in English, in the user's language.

That is the evidence of a limit, why a platform stands as it does, and what is wrong with a configuration.

The console says the same with the file ``daemon.zh-CN.json`` in its folder. What the demonstration, the simulation and
the stand-in say stands in ``tryouts.zh-CN.json`` here. Each holds ``{English: Chinese}`` with
``{names}`` for what differs. Reasons that are codes (``connection refused``) are not among them: people search and
filter by those.
"""

import json
import re
from functools import cache
from importlib.resources import files
from itertools import chain

from relay.cli.words.language import spoken

_TRYOUTS = "tryouts.zh-CN.json"
_NAME = re.compile(r"\\{(\w+)\\}")
_PLURAL = re.compile(r"\b(time|request|minute|stretch)(e?s)\b")


def heard(sentence: str) -> str:
    """Return a sentence in the language that is spoken; as it is where that is not known.

    ``refused 1 time after 9 requests; ...`` is found as ``refused {n} times after {count} requests; ...``. What stands
    before a colon and is one word, as a setting, stays before it.
    """
    for pattern, chinese in _known() if spoken() == "zh-CN" else ():
        if found := pattern.fullmatch(sentence):
            return chinese.format(**{name: heard(each) for name, each in found.groupdict().items()})
    where, colon, rest = sentence.partition(": ")
    return f"{where}: {heard(rest)}" if colon and " " not in where else sentence


@cache
def _known() -> tuple[tuple[re.Pattern[str], str], ...]:
    sources = (files("relay.admin") / "console" / "lang" / "daemon.zh-CN.json", files(__package__) / _TRYOUTS)
    texts = [json.loads(source.read_text(encoding="utf-8")).items() for source in sources]
    return tuple((re.compile(_pattern(english)), chinese) for english, chinese in chain(*texts))


def _pattern(english: str) -> str:
    """Return what finds the sentence: each name is any text, and one of a thing may be told as ``1 time``."""
    return _PLURAL.sub(r"\1(?:\2)?", _NAME.sub(r"(?P<\1>.+?)", re.escape(english)))
