"""``python -m tests.simulation``: run seeds and say which fail. See README.md."""

import sys

from tests.simulation.hunt import main

sys.exit(main(sys.argv[1:]))
