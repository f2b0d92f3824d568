"""Build a Debian package: ``python -m tools.packages.build deb12``, or ``deb13``.

The package holds a virtual environment for the distribution's Python. pip fills it for that Python, also where only
another one is installed here: every wheel is compiled already, and pinned by its hash.
"""

import argparse
import gzip
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from tools.packages.manual import write_manual
from tools.packages.pins import HERE, PROCESSORS, TOP, platforms

PYTHONS = {"deb12": "3.11", "deb13": "3.13"}
VENV = "opt/callback-relay"
_PROGRAM = """#!/{venv}/bin/python3 -P
import sys
from relay.cli.main import main

sys.exit(main())
"""
_ENVIRONMENT = """home = /usr/bin
include-system-site-packages = false
version = {python}
executable = /usr/bin/python{python}
"""
_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/relay",
    "zsh": "usr/share/zsh/vendor-completions/_relay",
    "fish": "usr/share/fish/vendor_completions.d/relay.fish",
}


def product_version() -> str:
    """Return the version in pyproject.toml."""
    return str(tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def fill_environment(root: Path, python: str, processor: str) -> None:
    """Make ``root/opt/callback-relay``: what ``python -m venv`` makes, with the pinned wheels and the relay in it."""
    venv = root / VENV
    packages = venv / "lib" / f"python{python}" / "site-packages"
    packages.mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(_ENVIRONMENT.format(python=python))
    program = venv / "bin" / "relay"
    program.parent.mkdir()
    for name in ("python", "python3", f"python{python}"):
        (venv / "bin" / name).symlink_to(f"/usr/bin/python{python}")
    program.write_text(_PROGRAM.format(venv=VENV))
    program.chmod(0o755)
    wheels = root.parent / "wheels"
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(TOP))
    (wheel,) = wheels.glob("callback_relay-*.whl")
    fitting = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *platforms(processor)]
    _pip(
        "install", "--no-deps", "--no-compile", "--target", str(packages), *fitting, "--require-hashes",
        "-r", str(HERE / f"pins-{python}.txt"),
    )  # fmt: skip
    _pip("install", "--no-deps", "--no-compile", "--target", str(packages), *fitting, str(wheel))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, cwd=TOP, stdout=subprocess.PIPE).stdout
    _write(packages / "relay" / "build.txt", commit)
    shutil.rmtree(packages / "bin", ignore_errors=True)  # other packages' programs
    for tests in [*packages.glob("*/tests"), *packages.glob("*/test")]:
        shutil.rmtree(tests)


def fill_system(root: Path, version: str) -> None:
    """Put the files outside of the environment into ``root``: units, configuration, completions, manual, changelog."""
    units = root / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for unit in ("relay.service", "relay.socket"):
        text = (TOP / "systemd" / unit).read_text(encoding="utf-8").replace("/opt/relay/bin/relay", "/usr/bin/relay")
        (units / unit).write_text(_without_how_to_install(text), encoding="utf-8")
    schema = "usr/share/callback-relay/relay.schema.json"
    _copy(TOP / "relay.schema.json", root / schema)
    config = (TOP / "config.yaml").read_text(encoding="utf-8").replace("./relay.schema.json", f"/{schema}")
    _write(root / "etc/relay/config.yaml", config.encode())
    program = Path(sysconfig.get_path("scripts")) / "relay"
    for shell, place in _COMPLETIONS.items():
        text = subprocess.run([program, "completion", shell], check=True, stdout=subprocess.PIPE).stdout
        _write(root / place, text)
    manual = root.parent / "man"
    write_manual(manual, version)
    for page in sorted(manual.glob("*.1")):
        _write(root / "usr/share/man/man1" / f"{page.name}.gz", gzip.compress(page.read_bytes(), mtime=0))
    shared = root / "usr/share/doc/callback-relay"
    _copy(HERE / "debian/copyright", shared / "copyright")
    _write(shared / "changelog.gz", gzip.compress((TOP / "CHANGELOG.md").read_bytes(), mtime=0))


def main() -> None:
    """Build the package that the command line names into ``dist/``."""
    parser = argparse.ArgumentParser(description="Build a Debian package of the relay.")
    parser.add_argument("distribution", choices=PYTHONS)
    parser.add_argument("--release", action="append", help="Debian's own number behind the version; 1.")
    parser.add_argument("--to", type=Path, default=TOP / "dist")
    asked = parser.parse_args()
    python, version = PYTHONS[asked.distribution], product_version()
    names = {processor: debian for debian, processor in PROCESSORS.items()}
    processor = platform.machine()
    work = TOP / "build" / asked.distribution
    shutil.rmtree(work, ignore_errors=True)
    fill_environment(work / "root", python, processor)
    fill_system(work / "root", version)
    asked.to.mkdir(exist_ok=True, parents=True)
    nfpm = Path(sysconfig.get_path("scripts")) / "nfpm"
    words = {"ROOT": str(work / "root"), "ARCH": names[processor], "VERSION": version, "PYTHON": python}
    for release in asked.release or ["1"]:
        file = asked.to / f"callback-relay_{version}-{release}_{asked.distribution}_{names[processor]}.deb"
        subprocess.run(
            [nfpm, "package", "--config", "nfpm.yaml", "--packager", "deb", "--target", file.resolve()],
            check=True, cwd=HERE, env=os.environ | words | {"RELEASE": f"{release}~{asked.distribution}"},
        )  # fmt: skip


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", *arguments], check=True)


def _without_how_to_install(unit: str) -> str:
    """Leave out the comment above ``[Unit]``: the package has done what it says."""
    return unit[unit.index("[Unit]") :]


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


if __name__ == "__main__":
    main()
