"""The limits nobody announced: estimated from what was accepted and refused. Pure, as ``policy`` is: docs/limits.md."""
