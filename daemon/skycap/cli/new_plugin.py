"""The files of a new plugin: they run as they are, and say where to go on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 50

_MODULE = '''"""The plugin @name@."""

from skycap import Context, Payload, Plugin

plugin = Plugin("@name@")


class @Payload@(Payload, kind="@kind@"):
    who: str


@plugin.job()
async def @function@(ctx: Context, payload: @Payload@) -> str:
    ctx.log.info("greeting")
    return f"Hello, {payload.who}!"
'''

_TEST = '''"""What @name@ does, without any server."""

import asyncio

from skycap import JobState
from skycap.testing import perform

from @module@ import @Payload@, @function@


def test_somebody_is_greeted() -> None:
    done = asyncio.run(perform(@function@, @Payload@(who="Ada")))
    assert (done.state, done.result) == (JobState.COMPLETED, "Hello, Ada!")
'''

_PROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "@name@"
version = "0.1.0"
description = "A plugin of skycap"
requires-python = ">=3.11"
dependencies = ["skycap"]

[project.entry-points.skycap]                      # the name is the plugin's name in settings, logs and metrics
@name@ = "@module@:plugin"

[tool.hatch.build.targets.wheel]
packages = ["src/@module@"]

[tool.pytest.ini_options]
pythonpath = ["src"]
"""


@dataclass(frozen=True, kw_only=True)
class NewPlugin:
    """The texts of a plugin, by the paths of its files."""

    name: str
    kind: str
    files: Mapping[Path, str]
    is_package: bool

    def write(self, folder: Path) -> list[Path]:
        """Write all of them, or none: raises UsageError when one is there already."""
        files = {folder / path: text for path, text in self.files.items()}
        for file in (folder / self.name, *files) if self.is_package else files:
            if file.exists():
                raise click.UsageError(f"{file}: is there already, and is not overwritten; choose another name")
        try:
            for file, text in files.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("x", encoding="utf-8") as stream:
                    stream.write(text)
        except OSError as error:
            raise click.UsageError(f"--into: cannot write {error.filename}: {error.strerror}") from error
        return list(files)

    def hints(self, folder: Path) -> Iterator[str]:
        """What to type next."""
        payload = shlex.quote('{"who": "Ada"}')
        yield ""
        if self.is_package:
            where = shlex.quote(str(folder / self.name))
            yield "install it where skycap is, and restart the daemons:"
            yield f"  pip install {where}"
            yield f"  skycap enqueue {self.kind} --payload {payload}"
        else:
            where = shlex.quote(str(folder))
            yield "try it, in two terminals:"
            yield f"  skycap run --embedded --plugins-dir {where}"
            yield f"  skycap enqueue {self.kind} --payload {payload} --plugins-dir {where}"


def begun(name: str, *, as_package: bool) -> NewPlugin:
    """The plugin ``name``; raises UsageError for what cannot be the name of one."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise click.UsageError(
            f"{name!r} cannot be a plugin's name: give small letters, digits and hyphens, such as loyalty-points"
        )
    kind = f"greet-{name}"
    module = f"{name.replace('-', '_')}_plugin" if as_package else name.replace("-", "_")
    words = {
        "@name@": name,
        "@kind@": kind,
        "@module@": module,
        "@function@": kind.replace("-", "_"),
        "@Payload@": "".join(word.title() for word in kind.split("-")),
    }

    def filled(text: str) -> str:
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    if not as_package:
        return NewPlugin(name=name, kind=kind, files={Path(f"{module}.py"): filled(_MODULE)}, is_package=False)
    files = {
        Path(name, "pyproject.toml"): filled(_PROJECT),
        Path(name, "src", module, "__init__.py"): filled(_MODULE),
        Path(name, "tests", f"test_{module}.py"): filled(_TEST),
    }
    return NewPlugin(name=name, kind=kind, files=files, is_package=True)
