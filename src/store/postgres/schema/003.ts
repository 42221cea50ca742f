// Frozen, as 001. What a transaction of an app's needs to insert a job that the engine then admits.

export const sql = `-- The numbers of jobs and events come in blocks of a thousand, of which this gives the first. The engine uses its block
   -- up, under the writers' lock; who inserts a job without that lock takes a block, and the first number of it is the job's id.
   CREATE SEQUENCE gq_blocks AS bigint INCREMENT BY 1000 MINVALUE 0 MAXVALUE 9007199254739000 START WITH 0;
   SELECT setval('gq_blocks', (SELECT seq / 1000 * 1000 FROM gq_marks ORDER BY n DESC LIMIT 1));
   ALTER TABLE gq_jobs ALTER id SET DEFAULT nextval('gq_blocks'),
     ALTER created_at SET DEFAULT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint);

   -- Whoever inserts a unique key has its lock, by which the engine knows that it must not wait for the index; submitWith takes it before.
   CREATE FUNCTION gq_hold_key() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
       PERFORM pg_advisory_xact_lock(hashtextextended(
         'gopherqueue ' || TG_TABLE_SCHEMA || ' unique ' || NEW.queue || ' ' || NEW.type || ' ' || NEW.unique_key, 0));
       RETURN NEW;
     END $$;
   CREATE TRIGGER gq_jobs_hold_key BEFORE INSERT ON gq_jobs FOR EACH ROW
     WHEN (NEW.blocked = 2 AND NEW.unique_key IS NOT NULL) EXECUTE FUNCTION gq_hold_key();`
