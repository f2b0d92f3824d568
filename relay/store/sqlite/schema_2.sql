-- Version 2. A routed post is remembered with its targets: platform numbers as a JSON array, the first of them in row
-- seq, the next in seq + 1, and so on. NULL for a post to one platform.
ALTER TABLE idempotency ADD COLUMN targets TEXT;
