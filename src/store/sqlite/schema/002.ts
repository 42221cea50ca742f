// Frozen, as 001: a change is a new file. Columns without a CHECK: SQLite would read all rows of the table to prove one.

export const sql = `ALTER TABLE gq_jobs ADD COLUMN postponed INTEGER NOT NULL DEFAULT 0;`
