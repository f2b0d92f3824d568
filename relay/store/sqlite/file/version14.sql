-- Version 14, from version 13: how many callbacks were delivered later in a minute than their platform's objective allows.

ALTER TABLE sample ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
