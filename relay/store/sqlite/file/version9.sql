-- Version 9, from version 8: what has ended is found by its ordering key.

-- The key stands in an index that every ended row enters anyway, so this costs a settle nothing to speak of. All of a
-- million entries are read in 0.05 s.
DROP INDEX callback_ended;
CREATE INDEX callback_ended ON callback (state, ended_at, key) WHERE state > 0;
