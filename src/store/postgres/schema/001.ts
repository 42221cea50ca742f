// Frozen: a change is a new file. The tables of ../../sqlite/schema, in their state of 007, with these differences:
// - Ids of jobs and event numbers are counted by the rows of gq_marks, under the writers' lock, so that their order is that
//   of the commits. A row of gq_marks is also how a process whose connection was lost at COMMIT learns what became of it.
// - Text is compared by its bytes, as on SQLite, whatever the database's locale.
// It runs with the queue's schema as its search_path.

export const sql = `CREATE TABLE gq_meta (
     key   text COLLATE "C" PRIMARY KEY,
     value text COLLATE "C" NOT NULL
   );

   CREATE TABLE gq_queues (
     name           text COLLATE "C" PRIMARY KEY,
     paused         bigint NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
     max_depth      bigint CHECK (max_depth > 0),
     max_running    bigint CHECK (max_running > 0),
     max_running_per_key bigint NOT NULL DEFAULT 1 CHECK (max_running_per_key > 0),
     settling       text COLLATE "C",
     keep_succeeded bigint DEFAULT 86400000 CHECK (keep_succeeded BETWEEN 0 AND 3153600000000),
     keep_cancelled bigint DEFAULT 604800000 CHECK (keep_cancelled BETWEEN 0 AND 3153600000000),
     keep_dead      bigint CHECK (keep_dead BETWEEN 0 AND 3153600000000),
     scheduled      bigint NOT NULL DEFAULT 0 CHECK (scheduled BETWEEN 0 AND 9007199254740991),
     ready          bigint NOT NULL DEFAULT 0 CHECK (ready BETWEEN 0 AND 9007199254740991),
     running        bigint NOT NULL DEFAULT 0 CHECK (running BETWEEN 0 AND 9007199254740991),
     succeeded      bigint NOT NULL DEFAULT 0 CHECK (succeeded BETWEEN 0 AND 9007199254740991),
     dead           bigint NOT NULL DEFAULT 0 CHECK (dead BETWEEN 0 AND 9007199254740991),
     cancelled      bigint NOT NULL DEFAULT 0 CHECK (cancelled BETWEEN 0 AND 9007199254740991),
     all_submitted  bigint NOT NULL DEFAULT 0 CHECK (all_submitted BETWEEN 0 AND 9007199254740991),
     all_succeeded  bigint NOT NULL DEFAULT 0 CHECK (all_succeeded BETWEEN 0 AND 9007199254740991),
     all_failed     bigint NOT NULL DEFAULT 0 CHECK (all_failed BETWEEN 0 AND 9007199254740991),
     all_dead       bigint NOT NULL DEFAULT 0 CHECK (all_dead BETWEEN 0 AND 9007199254740991),
     all_cancelled  bigint NOT NULL DEFAULT 0 CHECK (all_cancelled BETWEEN 0 AND 9007199254740991),
     changed        bigint NOT NULL DEFAULT 0 CHECK (changed BETWEEN 0 AND 9007199254740991),
     rate_max       bigint CHECK (rate_max BETWEEN 1 AND 1000000),
     rate_per       bigint CHECK ((rate_per IS NULL) = (rate_max IS NULL) AND (rate_per IS NULL OR rate_per BETWEEN 1 AND 86400000)),
     -- When a queue whose rate is used up has room again.
     rate_free_at   bigint CHECK (rate_free_at BETWEEN 0 AND 8640000000000000)
   );
   CREATE INDEX gq_queues_settling ON gq_queues (name) WHERE settling IS NOT NULL;

   CREATE TABLE gq_jobs (
     -- Beyond 2^53 no double holds it: reading one such row would fail everybody's transaction.
     id                  bigint PRIMARY KEY CHECK (id BETWEEN 1 AND 9007199254740991),
     queue               text COLLATE "C" NOT NULL DEFAULT 'default',
     type                text COLLATE "C" NOT NULL,
     priority            bigint NOT NULL DEFAULT 2 CHECK (priority BETWEEN 0 AND 4),
     state               text COLLATE "C" NOT NULL DEFAULT 'ready',
     payload             text COLLATE "C" NOT NULL CHECK (payload::json IS NOT NULL),
     attempt             bigint NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 9007199254740991),
     budget_from         bigint NOT NULL DEFAULT 0 CHECK (budget_from BETWEEN 0 AND attempt),
     max_attempts        bigint NOT NULL DEFAULT 12 CHECK (max_attempts BETWEEN 1 AND 1000),
     backoff             text COLLATE "C",
     timeout             bigint NOT NULL DEFAULT 900000 CHECK (timeout BETWEEN 1 AND 3153600000000),
     on_timeout          text COLLATE "C" NOT NULL DEFAULT 'retry' CHECK (on_timeout IN ('retry', 'dead')),
     visibility_timeout  bigint NOT NULL DEFAULT 30000 CHECK (visibility_timeout BETWEEN 1 AND 3153600000000),
     run_at              bigint CHECK (run_at BETWEEN 0 AND 8640000000000000),
     deadline            bigint CHECK (deadline BETWEEN 0 AND 8640000000000000),
     created_at          bigint NOT NULL CHECK (created_at BETWEEN 0 AND 8640000000000000),
     idempotency_key     text COLLATE "C",
     concurrency_key     text COLLATE "C",
     -- 0: it may start. 1: it waits for a place of its concurrency key. 2: nobody has admitted it yet.
     blocked             bigint NOT NULL DEFAULT 2 CHECK (blocked IN (0, 2) OR (blocked = 1 AND concurrency_key IS NOT NULL)),
     trace               text COLLATE "C",
     ready_seq           bigint,
     lease_seq           bigint,
     lease_token         bigint,
     lease_expires_at    bigint CHECK (lease_expires_at BETWEEN 0 AND 8640000000000000),
     renewed_at          bigint,
     over_since          bigint,
     worker_id           bigint,
     company             bigint CHECK (company >= 0),
     losses              bigint NOT NULL DEFAULT 0,
     undelivered         bigint NOT NULL DEFAULT 0,
     asked               bigint,
     started_at          bigint CHECK (started_at BETWEEN 0 AND 8640000000000000),
     cancel_requested_at bigint CHECK (cancel_requested_at BETWEEN 0 AND 8640000000000000),
     finished_at         bigint CHECK (finished_at BETWEEN 0 AND 8640000000000000),
     prune_at            bigint CHECK (prune_at BETWEEN 0 AND 8640000000000000),
     progress            double precision CHECK (progress BETWEEN 0 AND 100),
     progress_message    text COLLATE "C",
     checkpoint          text COLLATE "C" CHECK (checkpoint IS NULL OR checkpoint::json IS NOT NULL),
     result              text COLLATE "C",
     warning             text COLLATE "C",
     tick                bigint CHECK (tick BETWEEN 0 AND 8640000000000000),
     postponed           bigint NOT NULL DEFAULT 0,
     unique_key          text COLLATE "C",
     -- When it became ready, unless it was when it was stored: the age of what waits counts from then.
     ready_at            bigint CHECK (ready_at BETWEEN 0 AND 8640000000000000),
     cause               bigint,
     reason              text COLLATE "C" CHECK (reason IN ('exhausted', 'permanent', 'timeout', 'expired')),
     -- The commonest first: it is evaluated at each change.
     CHECK (CASE state
       WHEN 'running'   THEN lease_token IS NOT NULL AND lease_expires_at IS NOT NULL AND started_at IS NOT NULL
         AND run_at IS NULL AND finished_at IS NULL AND result IS NULL AND reason IS NULL AND attempt > budget_from
       WHEN 'succeeded' THEN lease_expires_at IS NULL
         AND run_at IS NULL AND finished_at IS NOT NULL AND result IS NOT NULL AND reason IS NULL
       WHEN 'ready'     THEN lease_token IS NULL AND lease_expires_at IS NULL
         AND run_at IS NULL AND finished_at IS NULL AND result IS NULL AND reason IS NULL
       WHEN 'scheduled' THEN lease_token IS NULL AND lease_expires_at IS NULL
         AND run_at IS NOT NULL AND finished_at IS NULL AND result IS NULL AND reason IS NULL
       WHEN 'dead'      THEN lease_token IS NULL AND lease_expires_at IS NULL
         AND run_at IS NULL AND finished_at IS NOT NULL AND result IS NULL AND reason IS NOT NULL
       WHEN 'cancelled' THEN lease_token IS NULL AND lease_expires_at IS NULL
         AND run_at IS NULL AND finished_at IS NOT NULL AND result IS NULL AND reason IS NULL
       ELSE false END)
   );

   -- What was inserted with plain SQL and not yet admitted. queue and state: so that it is counted without its rows.
   CREATE INDEX gq_jobs_new ON gq_jobs (priority, id, queue, state) WHERE blocked = 2;
   -- The claim: the first ready jobs of one queue and type are the first rows of one range, with all that it asks of them.
   CREATE INDEX gq_jobs_ready ON gq_jobs (queue, type, priority, id, deadline, company) WHERE state = 'ready' AND blocked = 0;
   -- In terms of columns that a claim leaves as they are, so that it does not touch these: they are ready or running.
   CREATE INDEX gq_jobs_placed ON gq_jobs (queue, type, concurrency_key, priority, id)
     WHERE concurrency_key IS NOT NULL AND blocked = 0 AND run_at IS NULL AND finished_at IS NULL;
   CREATE INDEX gq_jobs_blocked ON gq_jobs (queue, type, concurrency_key, priority, id)
     WHERE blocked = 1 AND run_at IS NULL AND finished_at IS NULL;
   CREATE INDEX gq_jobs_scheduled ON gq_jobs (run_at, id) WHERE state = 'scheduled' AND blocked < 2;
   -- Few rows: at most the slots of all workers.
   CREATE INDEX gq_jobs_running ON gq_jobs (worker_id, lease_expires_at) WHERE state = 'running';
   -- Few rows, mostly none: jobs that may run beside a limited number of others.
   CREATE INDEX gq_jobs_company ON gq_jobs (company) WHERE company IS NOT NULL AND finished_at IS NULL;
   CREATE INDEX gq_jobs_deadline ON gq_jobs (deadline)
     WHERE deadline IS NOT NULL AND state IN ('scheduled', 'ready') AND blocked < 2;
   CREATE INDEX gq_jobs_prune ON gq_jobs (prune_at) WHERE prune_at IS NOT NULL;
   -- Dead letters and cancelled jobs are few and looked at often; the succeeded are many and read by id.
   CREATE INDEX gq_jobs_ended ON gq_jobs (state, id) WHERE state IN ('dead', 'cancelled');

   -- An idempotency key outlives its job until its window is over.
   CREATE TABLE gq_keys (
     queue      text COLLATE "C" NOT NULL,
     type       text COLLATE "C" NOT NULL,
     key        text COLLATE "C" NOT NULL,
     job_id     bigint NOT NULL,
     digest     text COLLATE "C" NOT NULL,
     expires_at bigint NOT NULL,
     PRIMARY KEY (queue, type, key)
   );
   CREATE INDEX gq_keys_expires ON gq_keys (expires_at);

   -- What submissions over the network were answered, for who did not hear it.
   CREATE TABLE gq_requests (
     request    text COLLATE "C"    PRIMARY KEY,
     answer     text COLLATE "C" NOT NULL,
     digest     text COLLATE "C",
     expires_at bigint NOT NULL
   );
   CREATE INDEX gq_requests_expires ON gq_requests (expires_at);

   CREATE TABLE gq_attempts (
     job_id        bigint NOT NULL REFERENCES gq_jobs (id) ON DELETE CASCADE,
     attempt       bigint NOT NULL,
     worker        text COLLATE "C",
     started_at    bigint NOT NULL,
     finished_at   bigint NOT NULL,
     outcome       text COLLATE "C" NOT NULL CHECK (outcome IN ('failed', 'timeout', 'lost', 'cancelled')),
     token         bigint,
     loss_id       bigint,
     error_name    text COLLATE "C",
     error_message text COLLATE "C",
     error_stack   text COLLATE "C",
     PRIMARY KEY (job_id, attempt)
   );
   CREATE INDEX gq_attempts_loss ON gq_attempts (loss_id) WHERE loss_id IS NOT NULL;

   -- One row each time that a process ended or fell silent while it held jobs: who was there is evidence.
   CREATE TABLE gq_losses (
     id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
     process text COLLATE "C" NOT NULL,
     at      bigint NOT NULL,
     jobs    bigint NOT NULL,
     names   text COLLATE "C" NOT NULL
   );

   CREATE TABLE gq_workers (
     id          bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
     name        text COLLATE "C" NOT NULL,
     slots       bigint NOT NULL,
     host        text COLLATE "C" NOT NULL,
     pid         bigint,
     pid_started text COLLATE "C",
     boot        text COLLATE "C",
     pid_space   text COLLATE "C",
     instance    text COLLATE "C" NOT NULL,
     overdue     text COLLATE "C" NOT NULL DEFAULT '[]',
     lost_answers bigint NOT NULL DEFAULT 0,
     asked       bigint,
     loss_id     bigint,
     started_at  bigint NOT NULL,
     seen_at     bigint NOT NULL,
     stopping_at bigint,
     ended_at    bigint,
     -- Last, for it may be large: the columns before it are read without it.
     sources     text COLLATE "C" NOT NULL
   );
   CREATE INDEX gq_workers_local ON gq_workers (id) WHERE ended_at IS NULL AND pid IS NOT NULL;
   CREATE INDEX gq_workers_remote ON gq_workers (seen_at) WHERE ended_at IS NULL AND pid IS NULL;
   CREATE INDEX gq_workers_ended ON gq_workers (ended_at) WHERE ended_at IS NOT NULL;
   CREATE INDEX gq_workers_instance ON gq_workers (instance);
   CREATE INDEX gq_losses_at ON gq_losses (at);
   CREATE INDEX gq_workers_overdue ON gq_workers (id) WHERE overdue <> '[]';

   CREATE TABLE gq_schedules (
     name       text COLLATE "C" PRIMARY KEY,
     cron       text COLLATE "C" NOT NULL,
     timezone   text COLLATE "C" NOT NULL,
     spec       text COLLATE "C" NOT NULL,
     payload    text COLLATE "C" NOT NULL,
     missed     text COLLATE "C" NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
     overlap    text COLLATE "C" NOT NULL CHECK (overlap IN ('allow', 'skip')),
     paused     bigint NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
     next_at    bigint,
     owed_at    bigint,
     last_at    bigint,
     last_job   bigint,
     problem    text COLLATE "C",
     defined_at bigint NOT NULL,
     defined_by text COLLATE "C" NOT NULL
   );
   CREATE INDEX gq_schedules_next ON gq_schedules (next_at) WHERE paused = 0 AND next_at IS NOT NULL;

   -- Who may call a server. Hashes are of 256 random bits, which no one can guess: they need no salt.
   CREATE TABLE gq_tokens (
     id           bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
     name         text COLLATE "C" NOT NULL UNIQUE,
     scopes       text COLLATE "C" NOT NULL,
     hash         text COLLATE "C" NOT NULL CHECK (length(hash) = 64),
     created_at   bigint NOT NULL,
     last_used_at bigint,
     revoked_at   bigint,
     -- From when on it is refused; NULL: never.
     expires_at   bigint CHECK (expires_at BETWEEN 0 AND 8640000000000000)
   );

   CREATE TABLE gq_audit (
     id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
     at      bigint NOT NULL,
     who     text COLLATE "C" NOT NULL,
     action  text COLLATE "C" NOT NULL,
     target  text COLLATE "C" NOT NULL,
     details text COLLATE "C"
   );

   -- One job of a key that has not ended: an end frees the key, however it came.
   CREATE UNIQUE INDEX gq_jobs_unique ON gq_jobs (queue, type, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL;
   -- Asked several times a second, of 50,000 queues: those whose rate is used up.
   CREATE INDEX gq_queues_rate ON gq_queues (rate_free_at) WHERE rate_free_at IS NOT NULL;
   -- The earliest instant at which that could have been said.
   CREATE INDEX gq_queues_rate_said ON gq_queues ((rate_free_at - rate_per - (rate_per + 999) / 1000)) WHERE rate_free_at IS NOT NULL;

   -- Its entries change with the cause alone, and a job that never failed has none. By id within a cause, as each index is.
   CREATE INDEX gq_jobs_cause ON gq_jobs (cause) WHERE cause IS NOT NULL;

   CREATE TABLE gq_marks (
     n      bigint PRIMARY KEY,
     id     uuid   NOT NULL,
     -- The last id or event number given.
     seq    bigint NOT NULL CHECK (seq BETWEEN 0 AND 9007199254740991)
   );
   INSERT INTO gq_marks VALUES (0, gen_random_uuid(), 0);
   INSERT INTO gq_meta (key, value) VALUES ('epoch', substr(replace(gen_random_uuid()::text, '-', ''), 1, 16));`
