"""Previews of mails: what a plugin's real handler would send for its sample jobs; needs no server at all."""
