"""The mails that skycap sends: templates and their translations, and no code."""
