"""Every group of checks, in the order in which they are told."""

from __future__ import annotations

from typing import Any

from skycap.checks.configuration import configuration
from skycap.checks.dns import dns
from skycap.checks.group import Group
from skycap.checks.host import host
from skycap.checks.mail import mail
from skycap.checks.plugins import plugins
from skycap.checks.postgresql import postgresql
from skycap.checks.redis import redis
from skycap.checks.secrets import secrets
from skycap.checks.templates import templates
from skycap.checks.unit import unit

GROUPS: tuple[Group[Any], ...] = (
    *(configuration, secrets, plugins, templates),
    *(redis, postgresql, mail, dns),
    *(unit, host),
)
