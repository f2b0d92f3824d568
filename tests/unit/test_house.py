"""The rules of the house that no other tool checks: room in folders, and one name for one thing."""

import ast
from collections import defaultdict
from pathlib import Path

from tests.parsed import parsed

RELAY = Path(__file__).parents[2] / "relay"
MODULES = sorted(path for path in RELAY.rglob("*.py") if path.name != "__init__.py")
MOST_IN_A_FOLDER = 16
ENDINGS = ("ings", "ers", "ing", "er", "ed", "es", "s", "d")


def stem(name: str) -> str:
    """Return a name without its ending: ``windows`` and ``window`` are one, ``limiter`` and ``limits`` too."""
    for ending in ENDINGS:
        if name.endswith(ending) and len(name) - len(ending) >= 3:
            return name[: -len(ending)].removesuffix("e")
    return name.removesuffix("e")


def test_a_folder_has_room() -> None:
    """No folder of the package holds more than sixteen modules: then it is given rooms of its own."""
    held: dict[Path, int] = defaultdict(int)
    for path in MODULES:
        held[path.parent] += 1

    assert {str(folder.relative_to(RELAY)): count for folder, count in held.items() if count > MOST_IN_A_FOLDER} == {}


def test_a_class_name_stands_once() -> None:
    """A class name means one thing in the whole package."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(RELAY)))

    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_module_names_do_not_differ_by_an_ending() -> None:
    """No two modules are told apart by an ending alone, as ``window`` and ``windows`` would be."""
    stems: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        stems[stem(path.stem)].add(path.stem)

    assert {one: sorted(names) for one, names in stems.items() if len(names) > 1} == {}
