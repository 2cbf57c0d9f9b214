"""The FIX initiator: bytes to frames to messages, the session as a fold, and the connection around it."""
