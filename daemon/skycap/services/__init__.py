"""What a handler reaches outside: the travel database, and mail that is sent once."""
