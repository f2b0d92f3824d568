"""Reads the list of planted faults: one TOML file per package of ``relay`` in ``tools/mutants/faults``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LISTS = Path(__file__).parent / "faults"


@dataclass(frozen=True, slots=True)
class Fault:
    """A change that breaks the relay: ``old`` becomes ``new`` in ``file``, and one of ``tests`` should fail."""

    package: str
    file: str  # below relay/
    old: str
    new: str
    harm: str  # what it does to whom
    tests: tuple[str, ...]  # below tests/, as pytest takes them; run before any others
    serious: bool = False  # loses, leaks or floods something: may never be missed

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.file}: {self.harm}"

    def planted(self, text: str) -> str:
        """Return the file's text with the fault in it. Raises ``ValueError`` when it is not there exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: its old text is there {found} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)


def read_faults() -> list[Fault]:
    """Return all faults, package by package."""
    faults = []
    for path in sorted(_LISTS.glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]:
            faults.append(Fault(path.stem, **{**entry, "tests": tuple(entry["tests"])}))
    return faults


def stale(faults: list[Fault], root: Path = ROOT) -> list[str]:
    """Return what is wrong with faults that the tree has outgrown: a text not found once, a file or test gone."""
    wrong = []
    for fault in faults:
        path = root / "relay" / fault.file
        if not path.exists():
            wrong.append(f"{fault.name}: relay/{fault.file} is gone")
            continue
        try:
            planted = fault.planted(path.read_text(encoding="utf-8"))
            if path.suffix == ".py":
                compile(planted, str(path), "exec")
        except (ValueError, SyntaxError) as error:
            wrong.append(f"{fault.name}: {error}" if isinstance(error, SyntaxError) else str(error))
        wrong += [f"{fault.name}: there is no {test}" for test in fault.tests if not _exists(root, test)]
    return wrong


def _exists(root: Path, test: str) -> bool:
    file, *names = test.partition("[")[0].split("::")
    path = root / "tests" / file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    # A store's tests are inherited from the conformance suite, in another file of the same folder.
    texts = [text, *(other.read_text(encoding="utf-8") for other in path.parent.glob("*.py"))] if names else [text]
    return bool(text) and all(
        any(f"def {name}(" in each or f"class {name}" in each for each in texts) for name in names
    )
