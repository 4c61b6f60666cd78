"""The life of one daemon process: its start, the generations of its settings, its signals, and its end."""
