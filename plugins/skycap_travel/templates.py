"""The templates of the travel mails: one loader for all plugins, so that they are listed and read once."""

from __future__ import annotations

from jinja2 import PackageLoader

TEMPLATES = PackageLoader("skycap_templates", "")
