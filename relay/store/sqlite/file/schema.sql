-- Version 1. Times are REAL seconds on the relay clock, sizes are bytes; state and lane are core.model's numbers.

-- One row per fact the whole file shares: boot_id, offset_s, last_at, tag, secret, written_by.
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE platform (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- Durable totals, written in the transaction that changes what they count.
CREATE TABLE ledger (
  platform INTEGER PRIMARY KEY,
  accepted INTEGER NOT NULL DEFAULT 0,
  delivered INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  expired INTEGER NOT NULL DEFAULT 0,
  superseded INTEGER NOT NULL DEFAULT 0,
  pruned_delivered INTEGER NOT NULL DEFAULT 0,
  pruned_dead INTEGER NOT NULL DEFAULT 0,
  pruned_expired INTEGER NOT NULL DEFAULT 0,
  pruned_superseded INTEGER NOT NULL DEFAULT 0,
  last_error TEXT
);

-- Narrow on purpose: claims and settles rewrite these rows; the bytes lie in payload.
CREATE TABLE callback (
  seq INTEGER PRIMARY KEY,
  platform INTEGER NOT NULL,
  grp TEXT NOT NULL,
  key INTEGER,                     -- 63-bit keyed hash of platform and ordering key; NULL = unordered
  state INTEGER NOT NULL,
  live INTEGER NOT NULL,           -- holds its place in its key: pending, or dead and blocking
  head INTEGER NOT NULL,           -- claimable once due: pending, first of its key, in no frozen batch, not held
  lane INTEGER NOT NULL,           -- its own
  prio INTEGER NOT NULL,           -- the highest lane from here to the end of its key
  due_at REAL NOT NULL,
  attempts INTEGER NOT NULL,
  spent INTEGER NOT NULL,
  strikes INTEGER NOT NULL,        -- always 0, nobody reads it; dropping it would rewrite every row of an older file
  batch INTEGER,                   -- pending: the frozen batch it is in; final: the last one
  bytes INTEGER NOT NULL,
  accepted_at REAL NOT NULL,
  expires_s REAL NOT NULL,
  expires_at REAL NOT NULL,
  ended_at REAL,
  first_sent_at REAL NOT NULL,     -- under its present budget; 0 = not yet
  held INTEGER NOT NULL,
  maybe_applied INTEGER NOT NULL,
  overtaken INTEGER NOT NULL,      -- dead or expired, and a newer one of its key was delivered
  reason TEXT,
  key_text TEXT,
  event TEXT,
  content_type TEXT,
  traceparent TEXT,
  superseded_by INTEGER,           -- seq of the newer one
  priority INTEGER NOT NULL,       -- the lane it was accepted with
  message TEXT,                    -- the platform's own words about this callback
  trail TEXT,                      -- numbers of batches it was in before, oldest first
  idem INTEGER                     -- its hash in idempotency
);
-- The next of a key, and whether it has an earlier one.
CREATE INDEX callback_key ON callback (key, seq) WHERE live = 1 AND key IS NOT NULL;
-- Keys that must wait: something of theirs is in a frozen batch, held, or dead and blocking.
CREATE INDEX callback_busy ON callback (key) WHERE live = 1 AND key IS NOT NULL AND (batch IS NOT NULL OR held = 1 OR state = 2);
-- What a claim may take, in its order; covering, so choosing reads no rows.
CREATE INDEX callback_ready ON callback (platform, grp, prio, due_at, seq, bytes, expires_at) WHERE head = 1;
-- Expiry in order, and the count of pending ones.
CREATE INDEX callback_expiry ON callback (platform, expires_at) WHERE state = 0;
-- Final rows by age: pruning.
CREATE INDEX callback_ended ON callback (state, ended_at) WHERE state > 0;
-- Dead and expired: lists, operations, and who of a key was overtaken.
CREATE INDEX callback_shelf ON callback (platform, state, seq) WHERE state IN (2, 3);
CREATE INDEX callback_shelf_key ON callback (key, seq) WHERE state IN (2, 3) AND key IS NOT NULL;
CREATE INDEX callback_held ON callback (platform, seq) WHERE held = 1;

-- Dead heads that keep their key waiting, for a reload that ends that.
CREATE INDEX callback_blocking ON callback (platform, seq) WHERE live = 1 AND state = 2;

CREATE TABLE payload (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- hash: 63 bits, keyed, of platform (none for a routed post) and idempotency key: among ten million of them a new one
-- meets another's number with probability 1e-12, and is then refused as a conflict. digest: of payload, ordering key
-- and event. targets: of a routed post, the platforms of its rows as a JSON array; the first of them lies in seq, the
-- next in seq + 1, and so on.
CREATE TABLE idempotency (hash INTEGER PRIMARY KEY, seq INTEGER NOT NULL, digest BLOB NOT NULL, targets TEXT);

CREATE TABLE batch (
  number INTEGER PRIMARY KEY,      -- microseconds of its creation, made unique
  platform INTEGER NOT NULL,
  grp TEXT NOT NULL,
  state INTEGER NOT NULL,          -- 0 frozen and waiting, 1 under way, 2 done
  due_at REAL NOT NULL,
  attempts INTEGER NOT NULL,
  created_at REAL NOT NULL,
  root INTEGER NOT NULL,
  items INTEGER NOT NULL,
  expires_at REAL NOT NULL,        -- of the item that expires last: then a batch that waits ends with all of them; a
                                   -- read-back, which still finds out what became of its item, never does
  members BLOB NOT NULL,           -- the items' seqs, native int64, in their order
  confirm INTEGER NOT NULL         -- 1: asks what became of its one item instead of sending it
);
CREATE INDEX batch_due ON batch (platform, grp, due_at, expires_at) WHERE state = 0;
CREATE INDEX batch_expiry ON batch (expires_at) WHERE state = 0;
CREATE INDEX batch_sent ON batch (platform, items) WHERE state = 1;

CREATE TABLE attempt (
  id INTEGER PRIMARY KEY,
  platform INTEGER NOT NULL,
  grp TEXT NOT NULL,
  batch INTEGER NOT NULL,
  n INTEGER NOT NULL,
  started_at REAL NOT NULL,
  ended_at REAL,
  outcome TEXT,
  status INTEGER,
  duration_s REAL,
  reason TEXT,
  excerpt TEXT,
  ambiguous INTEGER,
  raw_bytes INTEGER,
  wire_bytes INTEGER
);
CREATE INDEX attempt_batch ON attempt (batch);
CREATE INDEX attempt_open ON attempt (id) WHERE ended_at IS NULL;
CREATE INDEX attempt_recent ON attempt (platform, ended_at);

CREATE TABLE gate (platform INTEGER PRIMARY KEY, gate TEXT NOT NULL);
-- The groups of a platform that are stopped; a row each, so that one more stop does not rewrite the others.
CREATE TABLE stop (platform INTEGER, grp TEXT, stop TEXT NOT NULL, PRIMARY KEY (platform, grp)) WITHOUT ROWID;

CREATE TABLE operation (
  number INTEGER PRIMARY KEY,
  action TEXT NOT NULL,
  filter TEXT NOT NULL,
  options TEXT NOT NULL,
  matched INTEGER NOT NULL,
  done INTEGER NOT NULL,
  skipped TEXT NOT NULL,
  failed TEXT NOT NULL,            -- ids of the first skipped ones
  started_at REAL NOT NULL,
  finished_at REAL
);
CREATE INDEX operation_open ON operation (number) WHERE finished_at IS NULL;
-- What an operation has still to do; its matches were fixed when it started.
CREATE TABLE operation_item (operation INTEGER, seq INTEGER, PRIMARY KEY (operation, seq)) WITHOUT ROWID;

CREATE TABLE audit (id INTEGER PRIMARY KEY, at REAL NOT NULL, record TEXT NOT NULL);
