"""Programs of Debian packages that tests run; ``tools/test-packages`` sees to them."""

import os
import shutil

import pytest


def installed(program: str, *, package: str) -> str:
    """Return the path of a program. Without it the test is skipped, and fails where ``CI=true``."""
    found = shutil.which(program)
    if found is None:
        missing = f"{program} is not installed; run: apt-get install --no-install-recommends {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found
