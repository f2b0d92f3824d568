"""fastify and BullMQ over a Valkey that syncs every write: the intake, and with a platform's URL the delivery too."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from tests.store.valkey import ValkeyServer

from benchmarks.processes import Process

_HERE = Path(__file__).resolve().parent
_INSTALLED = _HERE.parent.parent / ".venv" / "peers" / "node_modules"


def missing() -> str:
    """Return what is not there, in words, or nothing."""
    if shutil.which("node") is None:
        return "node is not installed"
    absent = [name for name in ("fastify", "bullmq", "ioredis") if not (_INSTALLED / name).is_dir()]
    return f"{' and '.join(absent)} not installed in .venv/peers" if absent else ""


class BullMQ:
    """The peer while its block lasts; nothing of it is left behind in ``directory`` but the server's files."""

    def __init__(self, directory: Path, *, deliver_to: str = "") -> None:
        """With ``deliver_to`` a worker posts what is queued to that URL."""
        self._directory = directory
        self._deliver_to = deliver_to
        self._open = ExitStack()

    def __enter__(self) -> "BullMQ":
        with ExitStack() as opened:
            server = ValkeyServer(self._directory)
            server.start()
            opened.callback(server.kill)
            self.intake = opened.enter_context(_node("server.cjs", str(server.port)))
            self.callbacks_url = self.intake.line()["url"] + "/v1/platforms/p/callbacks"
            if self._deliver_to:
                opened.enter_context(_node("worker.cjs", str(server.port), self._deliver_to)).line()
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _node(script: str, *arguments: str) -> Process:
    return Process(["node", str(_HERE / script), *arguments], environment={"NODE_PATH": str(_INSTALLED)})
