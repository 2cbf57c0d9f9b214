"""Lifecycle: closed days are sealed, compressed, archived, and deleted when too old; nothing before its successor is proven.

Consumes   closed day files and late files; admin.commands in group `lifecycle` (seal, compress, archive, retain)
Produces   data/ticks/columnar, data/ticks/archive, objects in cold storage, backups; lifecycle.events
Owns       every day that persistence has closed; the deletion of anything in the store
Scales     one at a time for a data folder, by a lock; others wait for their turn
On failure a day that is damaged is set aside and named while the others go on; a step that was killed is done again
"""
