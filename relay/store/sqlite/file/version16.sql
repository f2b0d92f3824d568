-- Version 16, from version 15: what was copied from another store keeps the ids that were given out there.

-- kind: 0 a callback, 1 a batch; here: its number in this file. Empty unless the file was filled by a copy.
CREATE TABLE alias (kind INTEGER, here INTEGER, id TEXT NOT NULL, PRIMARY KEY (kind, here)) WITHOUT ROWID;
CREATE UNIQUE INDEX alias_id ON alias (kind, id);
