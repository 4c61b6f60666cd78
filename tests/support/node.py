"""Node: a folder in which the TypeScript of this project is compiled and run, with the packages of its own lock.

The lock has no addresses of a registry. It is renewed in tests/typescript by ``npm install --package-lock-only``,
after which its ``resolved`` and ``funding`` are to be removed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemons import CLEAN, Finished
from tests.support.skips import skip

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("plugins/typescript", "tests/typescript", "tests/vectors")
OLDEST = (20, 19)
"""What Prisma needs; Debian 12 has 18, so that node is to come from elsewhere."""

_OFFLINE = re.compile(r"npm error code (ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH)")
_ENVIRON = {**CLEAN, "CHECKPOINT_DISABLE": "1", "npm_config_update_notifier": "false"}


@dataclass(frozen=True, kw_only=True)
class NodeSite:
    """The sources as in the checkout, ``node_modules`` above them, and what the compiler made of them in ``built/``."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> NodeSite:
        """Copy the sources and compile them. Skips where there is no Node; fails with what the compiler says."""
        packages = installed_packages(ROOT / "tests" / "typescript")
        for source in SOURCES:
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, folder / source, ignore=shutil.ignore_patterns("node_modules", "generated")
                )
        (folder / "node_modules").symlink_to(packages / "node_modules")
        (folder / "package.json").write_text(json.dumps({"type": "module"}))
        site = cls(folder=folder)
        # Prisma would fetch an engine, which its client has no need of.
        site.tool("prisma", "generate", environ={"PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true"})
        site.tool("tsc", "--project", ".")
        return site

    def backend(self, folder: Path, *, bullmq: str) -> Path:
        """A folder as that of a backend with the forwarder and one of the two versions of BullMQ."""
        (folder / "node_modules").mkdir(parents=True)
        packages = (self.folder / "node_modules").resolve()
        (folder / "node_modules" / "bullmq").symlink_to(packages / bullmq)
        for script in ("plugins/typescript/forward-bullmq.mjs", "tests/typescript/bullmq-queue.mjs"):
            shutil.copy(self.folder / script, folder)
        return folder

    def tool(self, name: str, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        """One of the packages' own programs, to its end, in tests/typescript."""
        done = subprocess.run(
            [self.folder / "node_modules" / ".bin" / name, *arguments],
            cwd=self.folder / "tests" / "typescript",
            env={**_ENVIRON, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name} says\n{done.stdout}{done.stderr}"

    async def test(self, name: str, **environ: str) -> None:
        """All tests of ``NAME.test.ts`` pass, and there are some."""
        done = await self.run(
            "--test", "--test-reporter=tap", "--test-timeout=30000", f"built/tests/typescript/{name}.test.js", **environ
        )
        passed = re.search(r"^# pass (\d+)$", done.out, re.MULTILINE)
        assert done.code == 0, done.out + done.err
        assert passed, done.out
        assert int(passed[1]) > 0, "there is no test in it"

    async def run(self, *arguments: str, **environ: str) -> Finished:
        process = await self.start(*arguments, **environ)
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode is not None
        return Finished(code=process.returncode, out=out.decode(), err=err.decode())

    async def start(self, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        """Node, in the site's folder; its output is to be read by ``communicate``."""
        return await asyncio.create_subprocess_exec(
            "node",
            *arguments,
            cwd=self.folder,
            env={**_ENVIRON, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


def installed_packages(locked: Path) -> Path:
    """A folder with the packages of the lock in the folder ``locked``, made once for all checkouts and processes."""
    wanted = f"Node {OLDEST[0]}.{OLDEST[1]} or newer, with its npm"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        skip(f"there is no {'node' if node is None else 'npm'} on PATH: install {wanted}")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < OLDEST:
        skip(f"{node} is {version}: install {wanted}")
    lock = locked / "package-lock.json"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skycap-tests"
    folder = caches / f"node-{hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()[:16]}"
    caches.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(npm, lock, folder)
    return folder


def _install(npm: str, lock: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in (lock.name, "package.json"):
        shutil.copy(lock.with_name(name), folder)
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        env=_ENVIRON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and _OFFLINE.search(done.stderr):
        skip("no registry answers npm, which has not yet fetched the packages that the tests of TypeScript need")
    assert done.returncode == 0, f"npm says\n{done.stderr}"
    (folder / "complete").touch()
