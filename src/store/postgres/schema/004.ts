// Frozen, as 001. While somebody holds an old snapshot, as pg_dump does, the entries of all that has run since stay in the
// indexes. Tokens only rise, so that those of leases which are over can be passed over; where ready jobs begin, each process
// remembers, and the marks say what others have made ready before that.

export const sql = `DROP INDEX gq_jobs_running;
   CREATE INDEX gq_jobs_running ON gq_jobs (worker_id, lease_token) WHERE state = 'running';
   -- The lowest id of a job that the transaction made ready, other than by storing it; null where an older version does not say.
   ALTER TABLE gq_marks ADD COLUMN readied bigint;`
