"""Words and states every layer shares. Standard library only."""
