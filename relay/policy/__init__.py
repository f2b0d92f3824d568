"""Pure decisions: no I/O, no asyncio, no clock. The time now and the random source are arguments."""
