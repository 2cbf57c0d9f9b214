"""python -m tests.fuzz: the session, its framer, decoder and market against conversations that were tampered with."""
