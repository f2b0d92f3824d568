"""``relay demo``: shows in half a minute what the relay promises; exits 1 if a promise does not hold."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from relay.cli.support.table import filled, padded
from relay.cli.words.daemon_words import heard
from relay.cli.words.sentences import say
from relay.core.clock import elapsed_s
from relay.demo.daemon import DemoDaemon, DemoFailed
from relay.demo.findings import Finding
from relay.demo.reconcile import ReconcileDemo
from relay.demo.run import LIMIT, ORDERS, Demo
from relay.standin.orders import STATUSES

_NARROWEST = 20  # columns for text, however narrow the terminal is
_PLAIN_STEP = 500  # callbacks between two lines, where no bar can be drawn
_NAMES = frozenset(
    (
        *(
            "platform",
            "relay",
            "posting",
            "restart",
            "done",
            "next",
            "progress",
            "posted",
            "compare",
            "repair",
            "verify",
        ),
        *("console", "runs", "ledger", "post", "outage", "config", "log"),
        *("callbacks in", "callbacks delivered", "requests used", "peak in any 60 s", "turned away"),
        *("order violations", "duplicates", "bytes", "unaccounted"),
        *("differences planted", "found", "invented", "repaired", "left for people", "peak in any 1 s"),
    )
)
"""The topics of steps and what is measured."""


def called() -> str:
    """Return what to type here to call the relay again: ``relay``, ``.venv/bin/relay``, ``python3 -m relay``."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{Path(sys.executable).name} -m relay"
    if (found := shutil.which("relay")) and Path(found).resolve() == program.resolve():
        return "relay"
    beside = os.path.relpath(program)
    return str(program) if beside.startswith("..") else beside


def _padded(name: str, width: int) -> str:
    """Return a topic or what was measured in the user's language, filled up to so many columns."""
    return padded(say(name) if name in _NAMES else name, width)


def _numbers(accepted: int, delivered: int, total: int, requests: int) -> dict[str, str]:
    return {
        "accepted": f"{accepted:,}",
        "delivered": f"{delivered:,}",
        "total": f"{total:,}",
        "requests": str(requests),
    }


class _Plain:
    """Shows the run in lines, for logs and pipes."""

    def __init__(self) -> None:
        self._printed = 0

    def say(self, topic: str, text: str) -> None:
        click.echo(f"  {_padded(topic, 10)} {heard(text)}")

    def progress(self, accepted: int, delivered: int, total: int, requests: int) -> None:
        if accepted // _PLAIN_STEP > self._printed // _PLAIN_STEP:
            self._printed = accepted
            words = "{accepted} of {total} accepted, {delivered} at the platform in {requests} requests"
            self.say("", say(words, **_numbers(accepted, delivered, total, requests)))

    def close(self) -> None:
        """Do nothing: there is no bar."""

    def title(self, text: str) -> None:
        click.echo(f"\n{text}\n")

    def finding(self, finding: Finding) -> None:
        verdict = "ok  " if finding.holds else "FAIL"
        click.echo(f"  {verdict} {_padded(finding.name, 20)} {finding.value:>9}  {heard(finding.meaning)}")


class _Terminal(_Plain):
    """Shows the run on a terminal, with a bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        columns = (
            TextColumn(f"  [cyan]{_padded('progress', 10)}[/]"),
            BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),  # also where there are 16 colours
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("")

    def say(self, topic: str, text: str) -> None:
        self._print(f"  [cyan]{_padded(topic, 10)}[/] ", heard(text), indent=13)

    def progress(self, accepted: int, delivered: int, total: int, requests: int) -> None:
        self._bar.start()
        told = _numbers(accepted, delivered, total, requests)
        text = say("{accepted} accepted, {delivered} delivered; requests: {requests}", **told)
        self._bar.update(self._task, completed=delivered, total=total, description=text)

    def close(self) -> None:
        self._bar.stop()

    def title(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/]\n", highlight=False)

    def finding(self, finding: Finding) -> None:
        verdict = "[green]✓[/]" if finding.holds else "[bold red]✗[/]"
        lead = f"  {verdict} {_padded(finding.name, 20)} [bold]{finding.value:>9}[/]  "
        self._print(lead, heard(finding.meaning), indent=36, style="dim")

    def _print(self, lead: str, text: str, *, indent: int, style: str = "") -> None:
        """Print ``text`` behind ``lead``; what does not fit into the line goes on below it, not below the lead."""
        first, *further = filled(text, max(self._console.width - indent, _NARROWEST))
        self._console.print(lead, Text(first, style=style), sep="", highlight=False, soft_wrap=True)
        for line in further:
            self._console.print(" " * indent, Text(line, style=style), sep="", highlight=False, soft_wrap=True)


@click.command()
@click.option("--reconcile", is_flag=True, help="Show instead how differences with a platform are found and repaired.")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards and print the addresses, until Ctrl-C.")
def demo(reconcile: bool, keep: bool) -> int:
    """Show the relay at work: 3,000 callbacks, a limit of 100 requests a minute, one kill -9.

    With --reconcile it shows twenty differences of every kind, planted, found and repaired. Needs no configuration and
    touches nothing outside a temporary directory. Exits 1 if any claim fails.
    """
    console = Console()
    screen = _Terminal(console) if console.is_terminal else _Plain()
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as directory:
        return uvloop.run(_show(Path(directory), screen, reconcile=reconcile, keep=keep))


async def _show(directory: Path, screen: _Plain, *, reconcile: bool, keep: bool) -> int:
    started_at = elapsed_s()
    show: Demo | ReconcileDemo
    if reconcile:
        screen.title(say("relay demo: twenty differences with a platform, planted, found and repaired"))
        show = ReconcileDemo(directory, screen=screen)
    else:
        total = f"{ORDERS * len(STATUSES):,}"
        words = "relay demo: {total} callbacks, a platform that allows {limit} requests a minute, and one kill -9"
        screen.title(say(words, total=total, limit=LIMIT))
        show = Demo(directory, screen=screen)
    try:
        try:
            found = await show.run()
        except DemoFailed as error:
            screen.close()
            _tell_failure(show.daemon, str(error))
            return 1
        screen.close()
        screen.title(say("Measured in {seconds} s", seconds=f"{elapsed_s() - started_at:.1f}"))
        for finding in found:
            screen.finding(finding)
        failed = [finding.name for finding in found if not finding.holds]
        if failed:
            _tell_failure(show.daemon, say("not as promised: {names}", names=", ".join(failed)))
        if keep:
            await _keep(show, screen)
        else:
            words = "{relay} demo --keep leaves it running and prints the console's address"
            screen.say("next", say(words, relay=called()))
        return 1 if failed else 0
    finally:
        screen.close()
        await show.close()


async def _keep(show: Demo | ReconcileDemo, screen: _Plain) -> None:
    screen.title(say("Everything keeps running until Ctrl-C"))
    for topic, text in _addresses(show):
        screen.say(topic, text)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def _addresses(show: Demo | ReconcileDemo) -> Sequence[tuple[str, str]]:
    daemon = show.daemon
    if isinstance(show, ReconcileDemo):
        return (
            ("console", f"http://{daemon.admin}/ui/reconcile"),
            ("runs", f"http://{daemon.admin}/v1/reconciliations"),
            ("compare", f"relay reconcile shop-a -c {daemon.config}"),
            ("config", str(daemon.config)),
            ("log", str(daemon.log)),
        )
    return (
        ("console", f"http://{daemon.admin}/"),
        ("ledger", f"http://{daemon.admin}/v1/ledger"),
        ("post", f'curl -d \'{{"order_id": "A1"}}\' http://{daemon.ingest}/v1/platforms/shop-a/callbacks'),
        ("platform", f"{show.platform.control_url}/stats"),
        ("outage", f'curl -d \'{{"outage": "503"}}\' {show.platform.control_url}/settings'),
        ("config", str(daemon.config)),
        ("log", str(daemon.log)),
    )


def _tell_failure(daemon: DemoDaemon, reason: str) -> None:
    click.echo("\n" + say("relay demo failed: {reason}", reason=reason), err=True)
    click.echo(say("The end of the daemon's log ({file}):", file=daemon.log), err=True)
    for line in daemon.log_tail():
        click.echo(f"  {line}", err=True)
