"""InvalidSettings: all that is wrong with a configuration, of which the message shows the first."""

from __future__ import annotations

from skycap.errors import ConfigurationError


class InvalidSettings(ConfigurationError):
    """The configuration cannot be used; ``problems`` has one line ``where: key: what is wrong; fix`` each."""

    def __init__(self, *problems: str) -> None:
        first, *more = problems
        super().__init__(f"{first} (and {len(more)} more)" if more else first)
        self.problems = problems
