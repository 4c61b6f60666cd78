"""How people see the fleet: what is wrong in a sentence, figures in words, and the page with all of it."""
