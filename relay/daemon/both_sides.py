"""The daemon's part in comparisons: it asks platforms for them, since it holds their limits, tokens and connections."""

from typing import cast

import msgspec

from relay.core.raw import JsonObject
from relay.daemon.inquiries import Questions
from relay.reconcile.job import Question


class DaemonReconciler:
    """What operators and commands reach of comparisons."""

    def __init__(self, *, questions: Questions) -> None:
        self._questions = questions

    async def ask(self, platform: str, question: JsonObject) -> JsonObject:
        """Ask the platform under its limits. Raises ``KeyError`` for a platform that is not compared."""
        reply = await self._questions.answer(platform, msgspec.convert(question, Question))
        return cast(JsonObject, msgspec.to_builtins(reply))
