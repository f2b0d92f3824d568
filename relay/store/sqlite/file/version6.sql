-- Version 6, from version 5: audit records are chained (relay/privacy/chain.py).

-- SHA-256 of the hash before it and of this record, in hex. Records from before this version get theirs at the start.
ALTER TABLE audit ADD COLUMN hash TEXT;

-- The newest record: its number, which counts all records there ever were, its hash and its time. One row.
CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL, hash TEXT NOT NULL, at REAL);
