// Frozen, as 001: a change is a new file. The column has no CHECK: SQLite would read all rows of the table to prove one.

export const sql = `ALTER TABLE gq_jobs ADD COLUMN cause INTEGER;
   -- Its entries change with the cause alone, and a job that never failed has none. By id within a cause, as each index is.
   CREATE INDEX gq_jobs_cause ON gq_jobs (cause) WHERE cause IS NOT NULL;

   -- How many jobs are dead of a cause, and how many have failed of it and not ended. A row without jobs goes.
   CREATE TABLE gq_causes (
     id      INTEGER PRIMARY KEY,
     queue   TEXT    NOT NULL,
     type    TEXT    NOT NULL,
     dead    INTEGER NOT NULL CHECK (dead IN (0, 1)),
     -- The version of the rule that named it.
     rule    INTEGER NOT NULL,
     cause   TEXT    NOT NULL,
     jobs    INTEGER NOT NULL DEFAULT 0 CHECK (jobs BETWEEN 0 AND 9007199254740991),
     last_at INTEGER NOT NULL DEFAULT 0 CHECK (last_at BETWEEN 0 AND 8640000000000000),
     UNIQUE (queue, type, dead, rule, cause)
   ) STRICT;
   CREATE INDEX gq_causes_most ON gq_causes (dead, jobs);
   CREATE INDEX gq_causes_cause ON gq_causes (cause);
   CREATE INDEX gq_causes_rule ON gq_causes (rule);
   -- Up to which job those of an older file have got their causes.
   INSERT INTO gq_meta (key, value) SELECT 'causes', '0' WHERE EXISTS (SELECT 1 FROM gq_jobs);`
