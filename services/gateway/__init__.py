"""The gateway: every message that reaches a socket becomes a journal record first, and then ticks on the bus.

Consumes   FIX sessions with liquidity providers (feeds file)
Produces   ticks:{p} (ticks, gaps, quarantine), data/journal/SESSION/
Owns       the journals, sequence numbers, tick numbering, flags
Scales     one process for all sessions; a second gateway takes other sessions
On failure the journal is read again from the watermark on: what is not durable is published again, under the same identity
"""
