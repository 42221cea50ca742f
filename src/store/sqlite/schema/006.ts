// Frozen, as 001: a change is a new file.

export const sql = `-- From when on a token is refused; NULL: never.
   ALTER TABLE gq_tokens ADD COLUMN expires_at INTEGER CHECK (expires_at BETWEEN 0 AND 8640000000000000);`
