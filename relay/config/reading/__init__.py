"""From text to plain data: YAML with places, secrets, units, presets, defaults."""
