-- Version 13, from version 12: what requests weigh in windows of items, bytes and points.

-- Points of a callback, where its platform counts points; without a row: 1.
CREATE TABLE cost (seq INTEGER PRIMARY KEY, points INTEGER NOT NULL);

-- What an attempt weighed when it was made; bytes: at the most. Only where its platform counts more than requests.
CREATE TABLE weight (
  attempt INTEGER PRIMARY KEY,
  items INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  points INTEGER NOT NULL
);
