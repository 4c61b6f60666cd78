"""``skycap completion``: the script with which a shell completes skycap's commands, options and names on TAB."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_SKYCAP_COMPLETE"
"""Set by the script when it calls skycap; click's own name for a program called skycap."""


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the completion script of SHELL.

    \b
    For yourself, in ~/.bashrc:   eval "$(skycap completion bash)"
    For all, as a package would:  skycap completion bash > /usr/share/bash-completion/completions/skycap
                                  skycap completion zsh > /usr/share/zsh/vendor-completions/_skycap
                                  skycap completion fish > /usr/share/fish/vendor_completions.d/skycap.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(context.find_root().command, {}, "skycap", _VARIABLE).source())
