"""Every code and reason that the relay tells, with what to do: as ``relay explain CODE`` has them."""

from relay.cli.words.meanings import known_codes
from tools.site.reference.words import Words, code, table


def page(words: Words) -> str:
    """Return the page: codes of the configuration, of the APIs, and the reasons of ends."""
    titles = {
        "config": words["Of the configuration", "配置"],
        "problem": words["Of the HTTP interfaces", "HTTP 接口"],
        "reason": words["Why a callback ended or waits", "回调为什么结束或等待"],
    }
    heads = words["code|meaning|what to do", "代码|意思|做法"].split("|")
    known = known_codes(words.language)
    parts: list[str] = []
    for group in dict.fromkeys(each.group for each in known.values()):
        rows = [(code(each.code), each.meaning, each.todo) for each in known.values() if each.group == group]
        parts.append(f"## {titles[group]}\n\n{table(heads, rows)}")
    return "".join(parts)
