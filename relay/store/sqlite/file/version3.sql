-- Version 3, from version 2: dead letters that a person dropped leave the list and the count, and are kept for audit.

-- 1: dead, and a person deleted its payload. The column was always 0 before and nobody read it.
ALTER TABLE callback RENAME COLUMN strikes TO dropped;
CREATE INDEX callback_dropped ON callback (platform, seq) WHERE dropped = 1;
UPDATE callback SET dropped = 1 WHERE state IN (2, 3) AND state = 2 AND bytes = 0
  AND NOT EXISTS (SELECT 1 FROM payload WHERE payload.seq = callback.seq);
