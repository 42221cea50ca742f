// Frozen, as 001. What a transaction of an app's needs to insert a job that the engine then admits.

export const sql = `-- The numbers of jobs and events come in blocks of a thousand, of which this gives the first. The engine uses its block
   -- up, under the writers' lock; who inserts a job without that lock takes a block, and the first number of it is the job's id.
   CREATE SEQUENCE gq_blocks AS bigint INCREMENT BY 1000 MINVALUE 0 MAXVALUE 9007199254739000 START WITH 0;
   SELECT setval('gq_blocks', (SELECT seq / 1000 * 1000 FROM gq_marks ORDER BY n DESC LIMIT 1));
   ALTER TABLE gq_jobs ALTER id SET DEFAULT nextval('gq_blocks'),
     ALTER created_at SET DEFAULT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint);`
