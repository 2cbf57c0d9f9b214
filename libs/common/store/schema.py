"""The schema of a day file and the way from every older version to the newest; `user_version` says which one a file has."""

import sqlite3

from libs.common.domain.errors import Rejected

MIGRATIONS = [
    """
    CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE symbols(symbol_id INTEGER PRIMARY KEY, symbol TEXT NOT NULL UNIQUE);
    CREATE TABLE providers(provider_id INTEGER PRIMARY KEY, provider TEXT NOT NULL UNIQUE);
    CREATE TABLE ticks(
        symbol_id INTEGER NOT NULL, ts INTEGER NOT NULL, provider_id INTEGER NOT NULL, seq INTEGER NOT NULL,
        recv_ts INTEGER, bid INTEGER, ask INTEGER, bid_size REAL, ask_size REAL, flags INTEGER NOT NULL,
        PRIMARY KEY (symbol_id, ts, provider_id, seq)) WITHOUT ROWID;
    CREATE TABLE gaps(
        session TEXT NOT NULL, first_seq INTEGER, last_seq INTEGER, from_ts INTEGER NOT NULL, to_ts INTEGER,
        cause TEXT NOT NULL, resolved_by TEXT);
    CREATE UNIQUE INDEX gap_identity ON gaps(session, cause, from_ts, coalesce(first_seq, -1));
    CREATE TABLE quarantine(
        recv_ts INTEGER NOT NULL, session TEXT NOT NULL, provider TEXT NOT NULL, symbol TEXT NOT NULL,
        reason TEXT NOT NULL, raw BLOB NOT NULL, number INTEGER NOT NULL, UNIQUE (session, recv_ts, number));
    CREATE TABLE account(
        provider TEXT NOT NULL, symbol TEXT NOT NULL, numbered INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0,
        duplicates INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (provider, symbol)) WITHOUT ROWID;
    CREATE TABLE watermark(session TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
    CREATE VIEW quotes(time, symbol, provider, bid, ask, bid_size, ask_size, spread, flags) AS
        SELECT strftime('%Y-%m-%dT%H:%M:%S', ts / 1000000000, 'unixepoch') || printf('.%09dZ', ts % 1000000000),
               symbol, provider, bid / 1e9, ask / 1e9, bid_size, ask_size, (ask - bid) / 1e9, flags
        FROM ticks JOIN symbols USING (symbol_id) JOIN providers USING (provider_id);
    """,
    # bids and asks: JSON text [[price in 1e-9, size or null], ...] from the best level on, for sqlite's json_each
    """
    CREATE TABLE trades(
        symbol_id INTEGER NOT NULL, ts INTEGER NOT NULL, provider_id INTEGER NOT NULL, seq INTEGER NOT NULL,
        recv_ts INTEGER, price INTEGER NOT NULL, size REAL, side TEXT, trade_id TEXT,
        PRIMARY KEY (symbol_id, ts, provider_id, seq)) WITHOUT ROWID;
    CREATE TABLE books(
        symbol_id INTEGER NOT NULL, ts INTEGER NOT NULL, provider_id INTEGER NOT NULL, seq INTEGER NOT NULL,
        recv_ts INTEGER, bids TEXT NOT NULL, asks TEXT NOT NULL,
        PRIMARY KEY (symbol_id, ts, provider_id, seq)) WITHOUT ROWID;
    CREATE VIEW deals(time, symbol, provider, price, size, side, trade_id) AS
        SELECT strftime('%Y-%m-%dT%H:%M:%S', ts / 1000000000, 'unixepoch') || printf('.%09dZ', ts % 1000000000),
               symbol, provider, price / 1e9, size, side, trade_id
        FROM trades JOIN symbols USING (symbol_id) JOIN providers USING (provider_id);
    CREATE VIEW depth(time, symbol, provider, seq, level, bid_size, bid, ask, ask_size) AS
        SELECT strftime('%Y-%m-%dT%H:%M:%S', ts / 1000000000, 'unixepoch') || printf('.%09dZ', ts % 1000000000),
               symbol, provider, seq, deeper.key + 1,
               json_extract(bids, printf('$[%d][1]', deeper.key)), json_extract(bids, printf('$[%d][0]', deeper.key)) / 1e9,
               json_extract(asks, printf('$[%d][0]', deeper.key)) / 1e9, json_extract(asks, printf('$[%d][1]', deeper.key))
        FROM books JOIN symbols USING (symbol_id) JOIN providers USING (provider_id)
             JOIN json_each(CASE WHEN json_array_length(bids) > json_array_length(asks) THEN bids ELSE asks END) AS deeper;
    """,
]
SCHEMA_VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file to the newest schema; Rejected where it was written by a newer program than this one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise Rejected(f"schema version {version} is newer than {SCHEMA_VERSION}: upgrade this service")
    for number in range(version, SCHEMA_VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")
