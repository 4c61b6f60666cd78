"""``python -m skycap``: the same as the command ``skycap``."""

from skycap.cli import main

main()
