-- Version 8, from version 7: what a receipt tells of a callback beside what is kept of it anyway.

-- Only of posts with a Relay-Reference, and while receipts are configured of those with an idempotency key.
CREATE TABLE origin (seq INTEGER PRIMARY KEY, idempotency_key TEXT, reference TEXT);
