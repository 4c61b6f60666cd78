"""``skycap mail``: what mails look like, what became of them, and to whom none are sent."""

from __future__ import annotations

import click

from skycap.cli.verbs import Verbs

_VERBS = {
    "preview": ("skycap.cli.mail_preview:preview", "Write a mail to files, or show all of them on a page."),
    "ledger": ("skycap.cli.mail_ledger:ledger", "List what became of mails, and settle those in doubt."),
    "bounce": ("skycap.cli.mail_bounce:bounce", "Take in a bounce or a complaint, from a pipe."),
    "suppressions": ("skycap.cli.mail_suppressions:suppressions", "List, add and remove who gets no mail."),
}


@click.group(cls=Verbs, verbs=_VERBS)
def mail() -> None:
    """Preview mails, settle those in doubt, take in bounces, and see who gets none."""
