"""The gateway: every message that reaches a socket becomes a journal record first, and then ticks on the bus.

Consumes   FIX sessions, WebSocket and polled REST feeds (feeds file); POST /v1/pipeline/sink/tick
Produces   ticks:{p} (ticks, trades, books, gaps, quarantine), feed_health, alerts, data/journal/SESSION/
Owns       the journals, sequence numbers, tick numbering, flags
Scales     one process for all sessions; a second gateway takes other sessions
On failure the journal is read again from the watermark on: what is not durable is published again, under the same identity
"""
