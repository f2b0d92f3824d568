"""Build the zipapps: ``dist/relay-VERSION-py311.pyz`` and ``-py313.pyz``, for hosts where nothing may be installed.

At its first start it unpacks itself into ``$SHIV_ROOT``, else ``~/.shiv``, because compiled modules cannot be loaded
out of an archive. The folder must allow execution.
"""

import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path

from tools.packages.build import PYTHONS, VENV, fill_environment, product_version
from tools.packages.pins import TOP


def main() -> None:
    """Build one for each Python that a package is built for."""
    (TOP / "dist").mkdir(exist_ok=True)
    for python in PYTHONS.values():
        work = TOP / "build" / f"zipapp-{python}"
        shutil.rmtree(work, ignore_errors=True)
        fill_environment(work / "root", python, platform.machine())
        packages = work / "root" / VENV / "lib" / f"python{python}" / "site-packages"
        file = TOP / "dist" / f"relay-{product_version()}-py{python.replace('.', '')}.pyz"
        subprocess.run(
            [Path(sysconfig.get_path("scripts")) / "shiv", "--site-packages", packages,
             "--entry-point", "relay.cli.main:main",
             "--python", f"/usr/bin/python{python}", "--compressed", "--extend-pythonpath", "--output-file", file],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
