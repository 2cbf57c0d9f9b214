"""make demo: the whole pipeline on one machine, with a live view, and a reckoning at the end."""
