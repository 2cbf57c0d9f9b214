"""A market as facts: synthetic or recorded; quotes, books and trades. No FIX, no sockets."""
