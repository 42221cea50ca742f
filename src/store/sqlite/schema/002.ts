// Frozen, as 001: a change is a new file. Columns without a CHECK: SQLite would read all rows of the table to prove one.

export const sql = `ALTER TABLE gq_jobs ADD COLUMN postponed INTEGER NOT NULL DEFAULT 0;

   ALTER TABLE gq_jobs ADD COLUMN unique_key TEXT;
   -- One job of a key that has not ended: an end frees the key, however it came.
   CREATE UNIQUE INDEX gq_jobs_unique ON gq_jobs (queue, type, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL;`
