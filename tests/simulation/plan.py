"""What a seed stands for: a configuration, what is posted, and what goes wrong when."""

import base64
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from relay.config.load import loads
from relay.config.schema.file import Config
from tests.simulation.platforms import MOODS

VARIANTS = 64  # configurations; each is checked and compiled once
PLATFORMS = ("shop", "mall")
KEK = base64.b64encode(b"simulated key of thirty-two byte").decode()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is so from ``start_s`` for ``for_s``; ``about`` is a platform or the disk's kind of fault."""

    kind: str  # see ``World._cause``; ``write`` is a crash in the middle of one, ``step`` one of the wall clock
    start_s: float
    for_s: float = 0.0
    about: str = ""
    fates: tuple[tuple[str, float], ...] = ()
    much: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one run does."""

    seed: int
    variant: int
    for_s: float  # posts and troubles end then
    posts: int
    keys: int
    troubles: tuple[Trouble, ...]

    def lines(self) -> list[str]:
        """Describe it."""
        told = [
            f"seed {self.seed}: {self.posts} posts on {self.keys} keys within {self.for_s:g} s, variant {self.variant}"
        ]
        return told + [f"  {trouble}" for trouble in self.troubles]


def plan(seed: int) -> Plan:
    """Return what ``seed`` stands for."""
    rng = random.Random(f"plan {seed}")
    for_s = rng.choice([5.0, 10.0, 20.0])
    troubles = []
    for name in PLATFORMS:
        for _ in range(rng.randrange(3)):
            fates = tuple((mood, rng.choice([0.1, 0.3, 1.0])) for mood in rng.sample(MOODS, rng.randrange(1, 4)))
            troubles.append(Trouble("platform", rng.uniform(0, for_s), rng.choice([1.0, 4.0, 12.0]), name, fates))
    for _ in range(rng.choice([0, 0, 1, 2])):
        fault = rng.choice(["write", "sync", "full"])
        troubles.append(
            Trouble("disk", rng.uniform(0, for_s), rng.choice([0.5, 2.0, 6.0]), fault, much=rng.choice([0.1, 1.0]))
        )
    if rng.random() < 0.3:
        troubles.append(Trouble("slow", rng.uniform(0, for_s), rng.choice([1.0, 4.0]), much=rng.choice([0.2, 1.5])))
    for _ in range(rng.choice([0, 1, 1, 2])):
        kind = rng.choice(["crash", "power", "write", "write-power"])
        troubles.append(Trouble(kind, rng.uniform(0, for_s), much=rng.randrange(1, 40)))
    if rng.random() < 0.3:
        much = rng.choice([3600.0, -3600.0, 315_576_000.0, -315_576_000.0])
        troubles.append(Trouble("step", rng.uniform(0, for_s), much=much))
    if rng.random() < 0.2:
        troubles.append(Trouble("pause", rng.uniform(0, for_s), rng.choice([1.0, 8.0]), rng.choice(PLATFORMS)))
    return Plan(
        seed=seed,
        variant=rng.randrange(VARIANTS),
        for_s=for_s,
        posts=rng.choice([8, 15, 30]),
        keys=rng.choice([2, 6, 30]),
        troubles=tuple(sorted(troubles, key=lambda trouble: trouble.start_s)),
    )


@lru_cache(maxsize=2 * VARIANTS)
def configuration(variant: int, store: Path) -> Config:
    """Return the configuration of a variant, with its store at ``store``."""
    rng = random.Random(f"variant {variant}")
    lines = ["version: 1", f"store: {{url: 'sqlite:{store}'}}"]
    if rng.random() < 0.3:
        lines.append("privacy: {encrypt: {key: '${env:KEK}'}}")
    shared = rng.random() < 0.25
    if shared:
        lines.append("quotas: {both: {rate: 6/s}}")
    lines.append("platforms:")
    for name in PLATFORMS:
        settings = [
            f"url: 'http://{name}.invalid/callbacks'",
            f"rate: {rng.choice(['5/s', '10/s', '8/2s', '20/10s', '[4/s, 30/10s]'])}",
            f"concurrency: {rng.randrange(1, 5)}",
            f"batch: {{max_items: {rng.choice([1, 5, 20])}}}",
            f"retry: {{times: {rng.randrange(0, 5)}, backoff: {rng.choice(['200ms..2s', '1s..5s'])}}}",
            f"breaker: {rng.choice(['off', '{open_after: 3, probe_every: 3s}'])}",
            f"compress: {rng.choice(['none', 'gzip'])}",
            f"expires: {rng.choice(['20s', '24h', '24h'])}",
            "key: order",
            "timeout: 2s",
        ]
        if rng.random() < 0.25:
            settings.append("coalesce: latest")
        if rng.random() < 0.5:
            settings.append(
                "results: {shape: by_index, at: failed, index: at, classify: [{path: code, in: [2], as: retry}]}"
            )
        if shared:
            settings.append("quotas: [both]")
        lines.append(f"  {name}: {{{', '.join(settings)}}}")
    return loads("\n".join(lines), path=store.with_suffix(".yaml"), environ={"KEK": KEK})
