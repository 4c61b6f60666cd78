"""What the fleet does once, whoever of it does it: schedules."""
