"""``rocscope completion``: tab completion for the shell."""

from __future__ import annotations

import click


@click.command("completion", short_help="Print the tab completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def COMMAND(shell: str) -> None:
    """Print the tab completion script of SHELL.

    \b
    Examples:
      rocscope completion bash >> ~/.bashrc
      rocscope completion fish > ~/.config/fish/completions/rocscope.fish
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(completer(root, {}, "rocscope", "_ROCSCOPE_COMPLETE").source())
