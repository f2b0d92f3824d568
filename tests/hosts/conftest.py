"""What takes an hour is collected for ``make hosts`` (CALLBACKS) alone: elsewhere it is left out, not skipped."""

import os

collect_ignore = [] if os.environ.get("CALLBACKS") else ["test_long.py"]
