-- Version 2, from version 1: how late a platform is, at every moment of an outage; operations that wait for batches.

-- Put back after a request, and waiting: since when each could have been sent, which is when it was accepted or retried
-- by a person. Empty on a good day, and nothing that is accepted, claimed and delivered ever enters it.
CREATE INDEX callback_put_back ON callback (platform, expires_at - expires_s)
  WHERE first_sent_at > 0.0 AND batch IS NULL AND held = 0 AND state = 0;

-- The same of the item that waits longest in the batch; of older batches, when its first one was made.
ALTER TABLE batch ADD COLUMN waiting_since REAL NOT NULL DEFAULT 0.0;
UPDATE batch SET waiting_since = root / 1e6 WHERE state = 0;
UPDATE batch SET waiting_since = root / 1e6 WHERE state = 1;
CREATE INDEX batch_open ON batch (platform, waiting_since) WHERE state < 2;

-- Matches of operations that lie in a frozen batch, until that is settled; batch: its number, 0 once it was.
CREATE TABLE operation_wait (operation INTEGER, seq INTEGER, batch INTEGER NOT NULL, PRIMARY KEY (operation, seq)) WITHOUT ROWID;
CREATE INDEX operation_wait_batch ON operation_wait (batch);
