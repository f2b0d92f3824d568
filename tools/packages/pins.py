"""Write the pins of the packages: name, version and hash of each wheel, as ``constraints.txt`` has them.

``python -m tools.packages.pins`` asks the package index which wheel fits each distribution's Python and each processor.
The files hold no addresses.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parent.parent
PYTHONS = ("3.11", "3.13")  # Debian 12, Debian 13
PROCESSORS = {"amd64": "x86_64", "arm64": "aarch64"}  # Debian's word: Python's
EXTRAS = "alerts,otel,reconcile"


def platforms(processor: str) -> list[str]:
    """Return pip's options for what Debian 12 and 13 can load (glibc 2.36) on ``processor``, as Python calls it."""
    tags = [f"manylinux_2_{minor}_{processor}" for minor in range(36, 16, -1)] + [f"manylinux2014_{processor}"]
    return [option for tag in tags for option in ("--platform", tag)]


def wheels(python: str, processor: str) -> dict[str, tuple[str, str]]:
    """Return the wheels for one Python and processor: ``{name: (version, sha256)}``."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report, tempfile.TemporaryDirectory() as target:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--dry-run",
             "--ignore-installed", "--report", report.name, "--target", target, "--only-binary", ":all:",
             "--implementation", "cp", "--python-version", python, *platforms(processor),
             "-c", str(TOP / "constraints.txt"), f"{TOP}[{EXTRAS}]"],
            check=True,
        )  # fmt: skip
        found = json.loads(Path(report.name).read_text())["install"]
    return {
        each["metadata"]["name"]: (
            each["metadata"]["version"],
            each["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256", ""),
        )
        for each in found
        if each["metadata"]["name"] != "callback-relay"
    }


def main() -> None:
    """Write one file per Python."""
    for python in PYTHONS:
        pins: dict[str, dict[str, str]] = defaultdict(dict)
        for processor in PROCESSORS.values():
            for name, (version, digest) in wheels(python, processor).items():
                pins[f"{name.lower()}=={version}"][digest] = processor
        lines = ["# Written by `make hashes`: the wheels in the package for Python " + python]
        for pin, digests in sorted(pins.items()):
            lines.append(" ".join([pin, *(f"--hash=sha256:{digest}" for digest in sorted(digests))]))
        (HERE / f"pins-{python}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
