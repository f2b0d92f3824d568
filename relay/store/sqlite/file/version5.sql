-- Version 5, from version 4: what each request was for.

-- core.model's Purpose. NULL: sent by a version that did not keep it.
ALTER TABLE attempt ADD COLUMN purpose INTEGER;
