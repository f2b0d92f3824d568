-- Version 10, from version 9: slots that others take of the limits.

-- platform: of a slot of a platform's limits, else ''; quota: of one of a shared quota, else ''. counts_from: when its way
-- back starts; while it is not given back, that is the latest time. done: it was given back, or was only reported.
CREATE TABLE lent (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  platform TEXT NOT NULL,
  quota TEXT NOT NULL,
  grp TEXT NOT NULL,
  taken_at REAL NOT NULL,
  counts_from REAL NOT NULL,
  done INTEGER NOT NULL
);
CREATE INDEX lent_recent ON lent (counts_from);
