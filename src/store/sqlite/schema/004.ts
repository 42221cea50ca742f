// Frozen, as 001: a change is a new file.

export const sql = `-- When it became ready, unless it was when it was stored: the age of what waits counts from then.
   ALTER TABLE gq_jobs ADD COLUMN ready_at INTEGER CHECK (ready_at BETWEEN 0 AND 8640000000000000);

   -- What happened to the jobs of a type in an hour since 1970, UTC: at most 1,000 types an hour, the rest under ''.
   CREATE TABLE gq_hours (
     hour      INTEGER NOT NULL,
     type      TEXT    NOT NULL,
     submitted INTEGER NOT NULL,
     succeeded INTEGER NOT NULL,
     failed    INTEGER NOT NULL,
     retried   INTEGER NOT NULL,
     dead      INTEGER NOT NULL,
     -- Histograms: the place of the first bucket that is not empty, then the counts from there on. Upper bounds in ms: 1, 2, 5, 10 and so on.
     waits     TEXT    NOT NULL CHECK (json_valid(waits)),
     runs      TEXT    NOT NULL CHECK (json_valid(runs)),
     wait_max  INTEGER NOT NULL,
     run_max   INTEGER NOT NULL,
     PRIMARY KEY (hour, type)
   ) STRICT, WITHOUT ROWID;`
