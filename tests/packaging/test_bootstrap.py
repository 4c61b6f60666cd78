"""The script `./skycap`: it makes .venv what the locks say, and otherwise stays out of the way."""

import ast
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
UNAVAILABLE = 69
PATIENCE_SECONDS = 20

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as the script itself needs."""
    return copy_script(tmp_path / "checkout")


@pytest.fixture
def script(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of `checkout` as a module."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return load(checkout)


def copy_script(folder: Path) -> Path:
    folder.mkdir()
    for name in ("skycap", "pyproject.toml", "requirements.lock", "requirements.dev.lock"):
        shutil.copy2(CHECKOUT / name, folder)
    return folder


def load(folder: Path) -> ModuleType:
    loader = SourceFileLoader("bootstrap", str(folder / "skycap"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ./skycap with the Python of this test, unless PYTHON says otherwise."""
    variables = {**os.environ, "PYTHON": sys.executable, **environment}
    command = (str(folder / "skycap"), *arguments)
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def make_ready(script: ModuleType, *, command_line: str = "exit 0") -> None:
    """A .venv with a stub of skycap's command line, marked as what requirements.lock names."""
    script.remake("for a test")
    program = Path(script.VENV, "bin", "skycap")
    program.write_text(f"#!/bin/sh\n{command_line}\n")
    program.chmod(0o755)
    Path(script.INSTALLED).write_text(script.fingerprint("requirements.lock"))
    Path(script.UNFINISHED).unlink()


# --- which Python


def test_no_python_is_one_line_that_names_the_way_out(checkout: Path) -> None:
    outcome = call(checkout, "demo", PYTHON="python3.999")

    assert outcome.returncode == UNAVAILABLE
    assert re.fullmatch(r"skycap: there is no python3\.999 on PATH: .*PYTHON=.*\n", outcome.stderr)


def test_a_python_that_is_too_old_is_refused(script: ModuleType) -> None:
    with pytest.raises(
        script.Refusal, match=r"needs python3 >= 3\.11, this is 3\.9\.18 .*: PYTHON=python3\.11 \./skycap"
    ):
        script.refuse_old_python((3, 9, 18))


def test_the_oldest_python_that_is_new_enough_is_accepted(script: ModuleType) -> None:
    script.refuse_old_python((3, 11, 0))


def test_python_3_7_can_parse_the_script_and_so_say_that_it_is_too_old() -> None:
    ast.parse((CHECKOUT / "skycap").read_text(), feature_version=(3, 7))


def test_an_older_python_really_says_so(checkout: Path) -> None:
    outcome = call(checkout, "demo", PYTHON=str(old_python()))

    assert outcome.returncode == UNAVAILABLE
    assert "needs python3 >= 3.11, this is 3." in outcome.stderr
    assert "Traceback" not in outcome.stderr


def old_python() -> Path:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [Path(folder, name) for folder in os.get_exec_path() for name in ("python3.9", "python3.10")]
    for candidate in (*pyenv.glob("versions/3.[789]*/bin/python3"), *candidates):
        if (
            candidate.exists()
            and subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    pytest.skip("there is no Python older than 3.11 on this machine")


# --- whether there is anything to do


def test_a_venv_that_is_ready_is_used_in_silence(script: ModuleType, checkout: Path) -> None:
    make_ready(script, command_line='echo "in $SKYCAP_CHECKOUT:"; for each in "$@"; do echo "<$each>"; done; exit 3')

    outcome = call(checkout, "enqueue", "two words", "")

    assert outcome.stdout == f"in {checkout}:\n<enqueue>\n<two words>\n<>\n"
    assert (outcome.returncode, outcome.stderr) == (3, "")


def test_the_script_finds_its_checkout_through_a_symlink(script: ModuleType, checkout: Path, tmp_path: Path) -> None:
    make_ready(script, command_line='echo "$SKYCAP_CHECKOUT"')
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    (elsewhere / "skycap").symlink_to(checkout / "skycap")

    assert call(elsewhere).stdout == f"{checkout}\n"


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_of_what_is_to_be_installed_is_noticed(script: ModuleType, checkout: Path, name: str) -> None:
    make_ready(script)
    assert script.is_ready("requirements.lock")

    with (checkout / name).open("a") as file:
        file.write("# changed\n")

    assert not script.is_ready("requirements.lock")
    assert script.reason_to_remake() == ""


def test_development_tools_are_not_there_just_because_skycap_is(script: ModuleType) -> None:
    make_ready(script)

    assert not script.is_ready("requirements.dev.lock")


def test_a_venv_of_another_python_is_remade(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ready(script)
    other = SimpleNamespace(version_info=(3, 99, 1), implementation=sys.implementation, platform=sys.platform)
    monkeypatch.setattr(script, "sys", other)

    assert not script.is_ready("requirements.lock")
    assert re.match(r"it was made for \w+ 3\.1\d\.\d+ on", script.reason_to_remake())


def test_a_venv_that_moved_or_was_copied_with_its_checkout_is_remade(
    script: ModuleType, checkout: Path, tmp_path: Path
) -> None:
    make_ready(script)
    shutil.copytree(checkout, tmp_path / "copy", symlinks=True)
    copy = load(tmp_path / "copy")

    assert not copy.is_ready("requirements.lock")
    assert copy.reason_to_remake().endswith(f"in {checkout}")


def test_a_venv_whose_python_was_removed_is_remade(script: ModuleType) -> None:
    make_ready(script)
    python = Path(script.VENV_PYTHON)
    python.unlink()
    python.symlink_to("/nonexistent/python3")

    assert not script.is_ready("requirements.lock")
    assert script.reason_to_remake() == "it has no working Python"


def test_a_venv_that_was_interrupted_is_remade(script: ModuleType) -> None:
    make_ready(script)
    Path(script.UNFINISHED).touch()

    assert not script.is_ready("requirements.lock")
    assert script.reason_to_remake() == "an earlier run was interrupted"


# --- making .venv


def test_remaking_leaves_a_working_python_and_nothing_of_before(
    script: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    make_ready(script)
    leftover = Path(script.VENV, "lib", "leftover.py")
    leftover.touch()

    script.remake("for a test")

    assert not leftover.exists()
    assert subprocess.check_output([script.VENV_PYTHON, "-c", "print(1 + 1)"], text=True) == "2\n"
    assert "skycap: remaking .venv: for a test\n" in capfd.readouterr().err


def test_a_venv_is_unfinished_until_everything_is_installed(script: ModuleType) -> None:
    script.remake("for a test")

    assert script.reason_to_remake() == "an earlier run was interrupted"


def test_a_venv_that_is_not_ours_is_left_alone(script: ModuleType) -> None:
    theirs = Path(script.VENV, "bin", "python")
    theirs.parent.mkdir(parents=True)
    theirs.touch()

    with pytest.raises(script.Refusal, match=r"was not made by \./skycap"):
        script.remake("for a test")

    assert theirs.exists()


def test_a_failed_update_leaves_what_was_installed_in_use(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when `./skycap test` is run for the first time in a train: `./skycap demo` goes on working."""
    make_ready(script)
    monkeypatch.setattr(script, "find_pip", lambda: ["pip"])

    def without_network(lock: str, _pip: list[str]) -> None:
        raise script.Refusal(f"no network to install {lock} from")

    monkeypatch.setattr(script, "install", without_network)
    with pytest.raises(script.Refusal, match=r"requirements\.dev\.lock"):
        script.prepare("requirements.dev.lock")

    assert script.is_ready("requirements.lock")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o777, 0o700)])
def test_an_odd_umask_does_not_lock_the_owner_out(script: ModuleType, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with script.readable_by_owner():
            script.remake("for a test")
        assert os.umask(umask) == umask, "the program that follows has the umask of the user"
    finally:
        os.umask(before)

    assert stat.S_IMODE(Path(script.VENV).stat().st_mode) == mode


# --- one at a time, and nobody left behind


def start(checkout: Path, statements: str) -> subprocess.Popen[str]:
    """Starts another process with the script as `module`."""
    load_script = (
        f"import runpy, sys, types; module = types.SimpleNamespace(**runpy.run_path({str(checkout / 'skycap')!r}))"
    )
    command = (sys.executable, "-u", "-c", f"{load_script}; {statements}")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def test_a_second_run_waits_for_the_first_and_says_so(script: ModuleType, checkout: Path) -> None:
    with ExitStack() as first:
        first.enter_context(script.alone())
        with start(checkout, "module.alone().__enter__(); print('entered')") as second:
            assert stream(second.stderr).readline() == "skycap: another ./skycap is preparing .venv, waiting for it\n"
            assert second.poll() is None
            first.close()
            assert stream(second.stdout).readline() == "entered\n"


def test_a_run_does_not_wait_for_one_that_was_killed(script: ModuleType, checkout: Path) -> None:
    with start(checkout, "module.alone().__enter__(); print('entered'); import signal; signal.pause()") as first:
        assert stream(first.stdout).readline() == "entered\n"
        first.kill()

    with script.alone():
        pass


@linux_only
def test_killing_a_run_kills_what_it_started(checkout: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    started = f"""module.complete(["sh", "-c", "echo $$ >{told}; exec sleep 600"], {{"PATH": "/usr/bin:/bin"}})"""
    with start(checkout, started) as parent:
        child = os.pidfd_open(int(told.read_text()))
        parent.kill()

    assert ended(child), "the child outlived its parent"


def ended(pidfd: int) -> bool:
    """A process file descriptor becomes readable when its process ends."""
    try:
        readable, _, _ = select.select([pidfd], [], [], PATIENCE_SECONDS)
        if not readable:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return bool(readable)
    finally:
        os.close(pidfd)


# --- pip's settings, for uv


def test_uv_gets_packages_from_where_pip_does(script: ModuleType, no_uv_settings: None, tmp_path: Path) -> None:
    settings = f"""
global.index-url='https://name:secret@mirror.example/simple'
global.extra-index-url='https://one.example/simple https://two.example/simple'
global.find-links='\\n{tmp_path}\\n/nonexistent\\nhttps://wheels.example'
global.timeout='60'
"""
    assert script.uv_sources(settings) == {
        "UV_DEFAULT_INDEX": "https://name:secret@mirror.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path},https://wheels.example",
    }


def test_the_environment_wins_over_pip_conf(script: ModuleType, no_uv_settings: None) -> None:
    settings = ":env:.index-url='https://env.example'\nglobal.index-url='https://file.example'\n"

    assert script.uv_sources(settings) == {"UV_DEFAULT_INDEX": "https://env.example"}


def test_settings_of_uv_itself_win(script: ModuleType, no_uv_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "https://uv.example")
    settings = "global.index-url='https://pip.example'\nglobal.trusted-host='pip.example'\n"

    assert script.uv_sources(settings) == {"UV_INSECURE_HOST": "pip.example"}


@pytest.fixture
def no_uv_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*filter(lambda name: name.startswith("UV_"), os.environ), "SSL_CERT_FILE", "ALL_PROXY"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_without_a_home_uv_keeps_its_cache_in_the_venv(
    script: ModuleType, no_uv_settings: None, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)

    assert Path(script.uv_environment({})["UV_CACHE_DIR"]).is_relative_to(script.VENV)


def test_with_a_home_uv_keeps_its_cache_where_it_always_does(
    script: ModuleType, no_uv_settings: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert "UV_CACHE_DIR" not in script.uv_environment({})


def test_settings_that_would_install_elsewhere_are_ignored(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", "/somewhere/else")
    monkeypatch.setenv("PIP_USER", "1")

    environment = script.undiverted()

    assert "PIP_TARGET" not in environment
    assert environment["PIP_USER"] == "0"


def test_temporary_files_stay_in_the_checkout(script: ModuleType) -> None:
    """A pip that is killed leaves some behind."""
    assert Path(script.undiverted()["TMPDIR"]).is_relative_to(script.VENV)


def test_the_uv_that_is_fetched_is_the_one_of_the_lock_with_its_hashes(script: ModuleType) -> None:
    entry = script.lock_entries("requirements.lock")["uv"]

    assert re.match(r"uv==\d+\.\d+\.\d+ \\\n    --hash=sha256:[0-9a-f]{64}", entry)
    assert "".join(script.lock_entries("requirements.lock").values()) in (CHECKOUT / "requirements.lock").read_text()


# --- from nothing


@pytest.fixture
def whole_checkout(tmp_path: Path) -> Path:
    unwanted = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
    return Path(shutil.copytree(CHECKOUT, tmp_path / "whole", ignore=unwanted))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_from_nothing_to_a_running_command_and_back_after_an_interruption(whole_checkout: Path, tmp_path: Path) -> None:
    first = call(whole_checkout, "--version", HOME=str(tmp_path))
    assert (first.returncode, "0.1.0" in first.stdout) == (0, True), first.stderr

    again = call(whole_checkout, "--version", HOME=str(tmp_path))
    assert (again.stdout, again.stderr) == (first.stdout, "")

    nowhere = "http://127.0.0.1:9/simple"
    offline = call(
        whole_checkout, "test", PIP_INDEX_URL=nowhere, UV_DEFAULT_INDEX=nowhere, UV_NO_CACHE="1", HOME=str(tmp_path)
    )
    assert offline.returncode == UNAVAILABLE
    assert call(whole_checkout, "--version", HOME=str(tmp_path)).stderr == ""

    (whole_checkout / ".venv" / ".skycap" / "unfinished").touch()
    repaired = call(whole_checkout, "--version", HOME=str(tmp_path))
    assert repaired.stdout == first.stdout
    assert "remaking .venv: an earlier run was interrupted" in repaired.stderr
