"""Answers questions about ticks: any day on disk, and the newest quotes of the stream.

Consumes    the streams ticks:{p}, each read whole and outside the groups; feed_health and alerts; days of every tier, read-only
Produces    HTTP: /api/history/…, /api/quotes/latest|history…, /api/pipeline/stats|feed-health|alerts, /openapi.json
Owns        data/cache/cold, which may be deleted; the newest quotes are a fold of the stream's tail, made again at every start
Scales      by copies: each reads the streams for itself
On failure  without Redis history is still served and the newest quotes age; a damaged day is left out and named
"""
