"""``relay keys``: the keys that the store is sealed with."""

import click

from relay.sealing.master_keys import new_key


@click.group()
def keys() -> None:
    """Make a key that the store is sealed with."""


@keys.command()
def new() -> None:
    """Print a new key for privacy.encrypt.key: 32 random bytes in base64. Keep it where the backups are not."""
    click.echo(new_key())
