-- Version 7, from version 6: what is sealed, and the keys that open it (relay/sealing).

-- Data keys, each wrapped by the master key with the id in master. platform 0: the store's own. day: since 1970-01-01.
CREATE TABLE data_key (
  id INTEGER PRIMARY KEY,
  platform INTEGER NOT NULL,
  day INTEGER NOT NULL,
  master TEXT NOT NULL,
  wrapped BLOB NOT NULL
);

-- 1: body is sealed, and holds the ordering key too; key_text is NULL then. Other sealed values (callback.key_text of a
-- deleted payload, callback.message, attempt.excerpt, ledger.last_error) are BLOBs where a plain one is TEXT.
ALTER TABLE payload ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;

-- The ordering key that an operation's filter names, sealed; then it is not in filter.
ALTER TABLE operation ADD COLUMN sealed_key BLOB;
