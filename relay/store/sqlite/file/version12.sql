-- Version 12, from version 11: ordering keys that an operator holds back.

-- key: as in callback. Empty on a good day.
CREATE TABLE key_hold (key INTEGER PRIMARY KEY, platform INTEGER NOT NULL, reason TEXT NOT NULL, since REAL NOT NULL);
