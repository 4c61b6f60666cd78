"""The travel backend's jobs: each module is one plugin, and can be switched off alone."""
