// Frozen, as 001: a change is a new file. gq_queues has CHECKs here, since SQLite reads its rows in a moment.

export const sql = `ALTER TABLE gq_queues ADD COLUMN rate_max INTEGER CHECK (rate_max BETWEEN 1 AND 1000000);
   ALTER TABLE gq_queues ADD COLUMN rate_per INTEGER
     CHECK ((rate_per IS NULL) = (rate_max IS NULL) AND (rate_per IS NULL OR rate_per BETWEEN 1 AND 86400000));
   -- When a queue whose rate is used up has room again.
   ALTER TABLE gq_queues ADD COLUMN rate_free_at INTEGER CHECK (rate_free_at BETWEEN 0 AND 8640000000000000);
   -- Asked several times a second, of 50,000 queues: those whose rate is used up.
   CREATE INDEX gq_queues_rate ON gq_queues (rate_free_at) WHERE rate_free_at IS NOT NULL;
   -- The earliest instant at which that could have been said.
   CREATE INDEX gq_queues_rate_said ON gq_queues (rate_free_at - rate_per - (rate_per + 999) / 1000) WHERE rate_free_at IS NOT NULL;

   -- Starts of queues with a rate, by the instant from which they count: at most 1,001 rows a queue.
   CREATE TABLE gq_starts (
     queue  TEXT    NOT NULL,
     at     INTEGER NOT NULL CHECK (at BETWEEN 0 AND 8640000000000000),
     starts INTEGER NOT NULL CHECK (starts > 0),
     PRIMARY KEY (queue, at)
   ) STRICT, WITHOUT ROWID;`
