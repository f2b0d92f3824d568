"""One connection of a listener: what aiohttp's protocol does on it, and what is done here in its place."""
