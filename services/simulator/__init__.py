"""The simulator: a liquidity provider as a FIX acceptor, for tests, benchmarks and demonstrations.

Consumes   FIX clients on --port, faults on the HTTP port, tick files (--replay)
Produces   a synthetic or replayed market as FIX messages, and the ledgers of every quote, level and trade it sent
Owns       the ledger files: written before a message is, so they say what a client can have received
Scales     one process is one provider; each client gets the whole market, the slowest one sets the pace
On failure sequence numbers are forgotten; the ledgers are appended to, so what was sent before is still accounted for
"""
