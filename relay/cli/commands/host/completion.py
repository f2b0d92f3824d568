"""``relay completion``: what a shell needs to complete the relay's commands and options with the Tab key."""

import click
from click.shell_completion import ShellComplete, get_completion_class

from relay.cli import main

_VARIABLE = "_RELAY_COMPLETE"  # that click looks for when it is called as `relay`
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what SHELL needs to complete commands and options.

    bash, in ~/.bashrc: source <(relay completion bash). zsh, in ~/.zshrc: source <(relay completion zsh).
    fish: relay completion fish > ~/.config/fish/completions/relay.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    # The base's own, because bash's would run bash to ask for its version.
    click.echo(ShellComplete.source(kind(main.relay, {}, "relay", _VARIABLE)))
