-- Version 4, from version 3: what happened in each minute; the code that an answer was recognised by.

-- The totals as they stood before the first change of the minute (whole minutes of the relay clock), and what was
-- counted in it. platform: its number; 0: all of them together, there for each minute in which anything was committed.
-- A platform without a row for such a minute had accepted nothing yet.
CREATE TABLE sample (
  platform INTEGER NOT NULL,
  minute INTEGER NOT NULL,
  accepted INTEGER NOT NULL DEFAULT 0,
  delivered INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  expired INTEGER NOT NULL DEFAULT 0,
  superseded INTEGER NOT NULL DEFAULT 0,
  requests INTEGER NOT NULL DEFAULT 0,
  refused INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  raw_bytes INTEGER NOT NULL DEFAULT 0,
  wire_bytes INTEGER NOT NULL DEFAULT 0,
  oldest_due_s REAL,               -- at the end of the minute; 0: nothing was due, NULL: not known
  PRIMARY KEY (platform, minute)
) WITHOUT ROWID;

-- What the rule met that decided: 10060004 of errcode=10060004.
ALTER TABLE callback ADD COLUMN code TEXT;
