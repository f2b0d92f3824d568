-- Version 11, from version 10: coalescing that waits until the key is quiet.

-- Since when newer callbacks of its key take each other's place without one being sent; NULL: its platform does not wait.
ALTER TABLE callback ADD COLUMN gathered_since REAL;
