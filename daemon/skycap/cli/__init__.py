"""The command line. Each verb lives in a module of its own that is imported only when it is used."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from skycap.cli import failures
from skycap.cli.output import wants_color
from skycap.cli.verbs import Verbs
from skycap.errors import SkycapError
from skycap.exits import Exit
from skycap.observe import logs

_VERBS = {
    "run": ("skycap.cli.run:run", "Run the daemon in the foreground."),
    "demo": ("skycap.cli.demo:demo", "Deliver a sample booking confirmation, with everything it needs."),
    "check": ("skycap.cli.check:check", "Look at all that a deployment needs, and say what to mend."),
    "enqueue": ("skycap.cli.enqueue:enqueue", "Enqueue one job."),
    "jobs": ("skycap.cli.jobs:jobs", "List, show, cancel, retry and reschedule jobs."),
    "queues": ("skycap.cli.queues:queues", "List, pause, resume and change queues."),
    "limits": ("skycap.cli.limits:limits", "List and change limits, and hold back what they count."),
    "breakers": ("skycap.cli.breakers:breakers", "List, open, close and reset the breakers of partners."),
    "dead": ("skycap.cli.dead:dead", "List, show, redrive and discard dead letters."),
    "mail": ("skycap.cli.mail:mail", "Preview mails; settle those in doubt; take in bounces."),
    "privacy": ("skycap.cli.privacy:privacy", "Export or erase what is held about a person."),
    "schedules": ("skycap.cli.schedules:schedules", "List, pause, resume and run schedules."),
    "kinds": ("skycap.cli.kinds:kinds", "List, pause and resume the kinds of jobs."),
    "tokens": ("skycap.cli.tokens:tokens", "Make and list the tokens of the HTTP API."),
    "top": ("skycap.cli.top:top", "Watch queues, daemons and rates, live."),
    "events": ("skycap.cli.events:events", "Follow what happens to jobs, as it happens."),
    "audit": ("skycap.cli.audit:audit", "List who did what."),
    "alerts": ("skycap.cli.alerts:alerts", "List alarms and what they look at; send a test notice."),
    "plugins": ("skycap.cli.plugins:plugins", "List the plugins, and begin a new one."),
    "config": (
        "skycap.cli.config:config",
        "Show, check or reload the configuration, or print its commented reference.",
    ),
    "outbox": ("skycap.cli.outbox:outbox", "Show the jobs that were enqueued in SQL, and replay them."),
    "cache": ("skycap.cli.cache:cache", "Show what the cache does, and have it forget."),
    "completion": ("skycap.cli.completion:completion", "Print a shell's completion script."),
    "db": ("skycap.cli.db:db", "Bring skycap's own tables up to date, and keep the backend's fast."),
}


_BROKEN_PIPE = 1
"""What click leaves with when whoever reads our output has seen enough; to us that is no failure."""


@click.group(cls=Verbs, verbs=_VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skycap", message="skycap %(version)s")
@click.pass_context
def skycap(context: click.Context) -> None:
    """Run a travel company's background jobs."""
    context.color = wants_color()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command; errors become one line and an exit code (sysexits.h)."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    logs.configure(level="warning", style="console")
    try:
        code = skycap.main(arguments, prog_name="skycap", standalone_mode=False)
        sys.stdout.flush()
    except (click.ClickException, SkycapError) as error:
        return failures.tell(error, as_json="--json" in arguments)
    except click.Abort:
        return Exit.INTERRUPTED
    except SystemExit as leaving:
        if leaving.code != _BROKEN_PIPE:
            raise
        return Exit.DONE
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception:  # noqa: BLE001 - the last line of defence, which shows what it caught
        traceback.print_exc()
        return Exit.INTERNAL
    return code if isinstance(code, int) else Exit.DONE
