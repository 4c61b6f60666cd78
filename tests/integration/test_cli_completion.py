"""TAB in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemons import CLEAN
from tests.support.skips import skip

BIN = Path(sys.executable).parent
OFFERED = {
    "bash": """
        source <(skycap completion bash)
        complete -p skycap >/dev/null || exit 1
        read -ra COMP_WORDS <<< "skycap $1"; [[ $1 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
        _skycap_completion skycap
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        autoload -U compinit; compinit -u -D
        source <(skycap completion zsh)
        [[ $_comps[skycap] == _skycap_completion ]] || exit 1
        _arguments() { : }; _describe() { print -l -- ${(P)3%%:*} }
        compadd() { local last=$@[-1]; print -l -- ${(P)last} }
        words=(skycap ${(z)1}); [[ $1 == *" " ]] && words+=("")
        CURRENT=$#words
        _skycap_completion
    """,
    "fish": """
        skycap completion fish | source
        complete -C "skycap $argv[1]" | string replace -r "\\t.*" ""
        true
    """,
}


@pytest.fixture(params=OFFERED)
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("que", {"queues"}),
        ("queues pause e", {"email"}),
        ("queues pause --config skycap.toml ", {"crm", "default", "email", "processing", "scheduled"}),
        ("jobs list --kind send-p", {"send-payment-receipt", "send-price-alert"}),
        ("jobs list --state r", {"running", "retryable"}),
    ],
)
def test_tab_offers(shell: str, typed: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "skycap.toml").write_text("[queues.crm]\n")
    assert set(_offered(shell, typed, tmp_path)) == offered


def test_tab_says_nothing_where_the_configuration_is_wrong(shell: str, tmp_path: Path) -> None:
    (tmp_path / "skycap.toml").write_text("[redis\n")
    assert _offered(shell, "queues pause --config skycap.toml ", tmp_path) == []


def _offered(shell: str, typed: str, folder: Path) -> list[str]:
    """The lines that the shell would offer; whatever is said on stderr would stand in the middle of a prompt."""
    name = [] if shell == "fish" else [shell]
    done = subprocess.run(
        [shell, "-c", OFFERED[shell], *name, typed],
        cwd=folder,
        env=CLEAN | {"PATH": f"{BIN}:{CLEAN['PATH']}", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]
