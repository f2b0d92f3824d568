"""One run from its start to what is kept of it: compared, repaired where that is wanted, verified, written down."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from relay.config.schema.file import Config
from relay.core.errors import RelayError
from relay.privacy.masking import HIDDEN, mask_as
from relay.reconcile import repairing
from relay.reconcile.job import Comparison
from relay.reconcile.launch import Ask, differences
from relay.reconcile.preparing import NO_EXPORTS, Exports, Followed, Window, comparison
from relay.reconcile.repairing import Repair, RepairsMade
from relay.reconcile.report.folder import Mask, RunFolder
from relay.reconcile.report.past import PastRuns
from relay.reconcile.results import DifferenceLine, RunSummary, VerifiedOrder
from relay.reconcile.workspace import Workspace


class WantedRun(NamedTuple):
    """What a run is to compare."""

    config: Config
    platform: str
    window: Window
    exports: Exports = NO_EXPORTS
    background: bool = False
    follow: bool = True  # what differed in the last run is compared, also where it lies before the window by now


class Choice(NamedTuple):
    """Which differences are to be repaired: of these kinds, at most so many; ``confirm`` is asked before."""

    kinds: Sequence[str]
    most: int
    resend: Callable[[str, Sequence[str]], Awaitable[int]]  # run, callbacks: the operation's number
    confirm: Callable[[int, RunSummary], bool]
    all_or_none: bool = False  # with more than ``most`` none is repaired


class Finished(NamedTuple):
    """A run that came to its end; ``verified`` is by the run whose repairs were looked at."""

    summary: RunSummary
    verified: list[VerifiedOrder]


def masked_by(config: Config, platform: str) -> Mask | None:
    """Return how ``privacy.mask`` shows the order's number of a platform; None: as it is."""
    settings = config.reconcile[platform].columns
    names = {names.key for names in (settings.of_order_center(), settings.of_platform())}
    paths = {tuple(name.split(".")) for name in names}
    how = next((how for path, how in config.privacy.masks if path in paths or path[-1:] in paths), None)
    if how is None:
        return None
    return (lambda _: HIDDEN) if how == "hide" else partial(mask_as, how=how)


async def run(
    wish: WantedRun,
    space: Workspace,
    *,
    ask: Ask,
    now: float,
    found: Callable[[DifferenceLine], None],
    choice: Choice | None = None,
    verify: str | None = None,
    folders: Sequence[RunFolder] = (),
) -> Finished:
    """Compare, in a workspace that was entered; ``found`` gets each difference at once.

    With ``choice`` what was found is repaired. ``verify`` names the run whose repairs are looked at; otherwise they
    are those of the last run that repaired anything and was not verified yet.
    """
    past = PastRuns(space.kept)
    of, repaired = past.to_verify(verify)
    watched = {repair.key for repair in repaired}
    job = comparison(
        wish.config,
        wish.platform,
        run=space.run,
        window=wish.window,
        exports=wish.exports,
        followed=Followed(sorted(watched), None if of is None else past.since(of), wish.follow),
        background=wish.background,
        folder=space.folder,
    )
    records = [*folders, *past.new_folder(space.run, mask=masked_by(wish.config, wish.platform))]
    kinds: dict[str, str] = {}
    repairs: list[Repair] = []
    results: list[VerifiedOrder] = []

    def tell(line: DifferenceLine) -> None:
        found(line)
        for record in records:
            record.add(line)
        if line["key"] in watched:
            kinds[line["key"]] = line["kind"]
        if choice is not None and (repair := repairing.repair_of(line)) is not None:
            repairs.append(repair)

    with ExitStack() as opened:
        for record in records:
            opened.enter_context(record)
        summary = await _compared(job, ask, tell)
        agreeing = summary.pop("agreeing", [])
        if summary["complete"]:
            space.hand_on()
            if of is not None:
                results = repairing.verified(repaired, kinds, agreeing)
                summary["verified"] = {"of": of, "counts": repairing.counted(results)}
                summary["verified_orders"] = results
                past.keep_verified(of, summary["run"], results)
        if choice is not None:
            meant, refused = _meant(wish, choice, repairs, summary)
            past.keep_repairs(space.run, meant)
            made = RepairsMade(len(repairs), refused=refused)
            if meant:
                made = await repairing.carry_out(meant, job, ask=ask, resend=partial(choice.resend, space.run), now=now)
            summary["repair"] = repairing.summed_up(made, unasked=choice.all_or_none)
        trend = past.trend()
        for record in records:
            record.end(summary, trend)
    space.give()
    return Finished(summary, results)


async def _compared(job: Comparison, ask: Ask, tell: Callable[[DifferenceLine], None]) -> RunSummary:
    """Compare, telling of each difference; return the summary."""
    summary: RunSummary | None = None
    async for line in differences(job, ask):
        if "counts" in line:
            summary = line
        else:
            tell(line)
    assert summary is not None, "it comes last"
    return summary


def _meant(wish: WantedRun, choice: Choice, repairs: list[Repair], summary: RunSummary) -> tuple[list[Repair], str]:
    """Return what is to be repaired, and why nothing is."""
    if not summary["complete"]:
        return [], "the run is incomplete: nothing is repaired from it"
    guard = wish.config.reconcile[wish.platform].guard.max_repairs
    if choice.all_or_none:
        count, most = sum(repair.kind in choice.kinds for repair in repairs), min(choice.most, guard)
        if count > most:
            return [], f"{count} differences are more than the {most} that are repaired unasked"
    try:
        meant = repairing.chosen(repairs, kinds=choice.kinds, most=choice.most, guard=guard)
    except RelayError as error:
        return [], str(error)
    if meant and not choice.confirm(len(meant), summary):
        return [], "nobody said yes"
    return meant, ""
