"""Where the relay's own unit has its things, for a command that systemd did not start.

The names are those of ``systemd/relay.service``: ``ConfigurationDirectory=relay``, ``StateDirectory=relay`` and the
credentials of ``relay.service`` (systemd.exec(5)). A file in the unit's configuration directory is the unit's.
"""

import os
from collections.abc import Mapping
from pathlib import Path

CONFIGURATION = Path("/etc/relay")
FILE = CONFIGURATION / "config.yaml"
_STATE = Path("/var/lib/relay")
_CREDENTIALS = Path("/run/credentials/relay.service")
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)


def is_units(file: Path) -> bool:
    """Tell whether a configuration file is the unit's: it lies in the unit's configuration directory."""
    return os.path.realpath(file.parent) == os.path.realpath(CONFIGURATION)


def state_directory(file: Path, environ: Mapping[str, str]) -> Path:
    """Return where a relative store lies: as systemd says, else where it would say so, else beside ``file``."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    # Looked at as a link: behind it only the service and root may look.
    if is_units(file) and (os.path.lexists(_STATE) or _BOOTED.is_dir()):
        return _STATE
    return Path(os.path.realpath(file)).parent


def credentials_directory(file: Path, environ: Mapping[str, str]) -> Path | None:
    """Return where credentials lie: as systemd says, else where it puts the unit's; None where there are none."""
    given = environ.get("CREDENTIALS_DIRECTORY")
    if given:
        return Path(given)
    return _CREDENTIALS if is_units(file) else None


def is_outside(file: Path, environ: Mapping[str, str]) -> bool:
    """Tell whether ``file`` is the unit's and this process is not: it lacks what systemd gives the service only."""
    return is_units(file) and not (environ.get("STATE_DIRECTORY") or environ.get("CREDENTIALS_DIRECTORY"))


def may_list_credentials() -> bool:
    """Tell whether the service runs with credentials that this process may read: what is not there is nowhere."""
    return os.access(_CREDENTIALS, os.R_OK | os.X_OK)
