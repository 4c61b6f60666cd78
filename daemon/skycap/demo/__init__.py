"""What `skycap demo` needs beside the daemon: a mailbox to watch the mails arrive in."""
