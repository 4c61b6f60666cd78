"""What the daemon says about itself: logs, and its state to systemd."""
