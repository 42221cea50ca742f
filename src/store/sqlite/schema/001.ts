// Frozen: files of every user were made by exactly this text, and a test holds its hash. A change is a new file.
// Ids and event numbers come from one sequence, the AUTOINCREMENT counter of gq_jobs: so ids are never reused, and
// `id < lease_seq` says that a job was submitted before another was first leased.
// The limits are 100 years in ms and the last instant of a Date: sums of them stay integers that STRICT columns take.
// What an INSERT evaluates must run in SQLite 3.38, as old as a shell may be: unixepoch knows no 'subsec' there, and
// json_valid(NULL) is 0.

export const sql = `CREATE TABLE gq_meta (
     key   TEXT PRIMARY KEY,
     value TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;

   CREATE TABLE gq_queues (
     name           TEXT PRIMARY KEY,
     paused         INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
     max_depth      INTEGER CHECK (max_depth > 0),
     max_running    INTEGER CHECK (max_running > 0),
     max_running_per_key INTEGER NOT NULL DEFAULT 1 CHECK (max_running_per_key > 0),
     settling       TEXT CHECK (settling IS NULL OR json_valid(settling)),
     keep_succeeded INTEGER DEFAULT 86400000 CHECK (keep_succeeded BETWEEN 0 AND 3153600000000),
     keep_cancelled INTEGER DEFAULT 604800000 CHECK (keep_cancelled BETWEEN 0 AND 3153600000000),
     keep_dead      INTEGER CHECK (keep_dead BETWEEN 0 AND 3153600000000),
     scheduled      INTEGER NOT NULL DEFAULT 0 CHECK (scheduled BETWEEN 0 AND 9007199254740991),
     ready          INTEGER NOT NULL DEFAULT 0 CHECK (ready BETWEEN 0 AND 9007199254740991),
     running        INTEGER NOT NULL DEFAULT 0 CHECK (running BETWEEN 0 AND 9007199254740991),
     succeeded      INTEGER NOT NULL DEFAULT 0 CHECK (succeeded BETWEEN 0 AND 9007199254740991),
     dead           INTEGER NOT NULL DEFAULT 0 CHECK (dead BETWEEN 0 AND 9007199254740991),
     cancelled      INTEGER NOT NULL DEFAULT 0 CHECK (cancelled BETWEEN 0 AND 9007199254740991),
     all_submitted  INTEGER NOT NULL DEFAULT 0 CHECK (all_submitted BETWEEN 0 AND 9007199254740991),
     all_succeeded  INTEGER NOT NULL DEFAULT 0 CHECK (all_succeeded BETWEEN 0 AND 9007199254740991),
     all_failed     INTEGER NOT NULL DEFAULT 0 CHECK (all_failed BETWEEN 0 AND 9007199254740991),
     all_dead       INTEGER NOT NULL DEFAULT 0 CHECK (all_dead BETWEEN 0 AND 9007199254740991),
     all_cancelled  INTEGER NOT NULL DEFAULT 0 CHECK (all_cancelled BETWEEN 0 AND 9007199254740991),
     changed        INTEGER NOT NULL DEFAULT 0 CHECK (changed BETWEEN 0 AND 9007199254740991)
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX gq_queues_settling ON gq_queues (name) WHERE settling IS NOT NULL;

   CREATE TABLE gq_jobs (
     -- Beyond 2^53 no double holds it: reading one such row would fail everybody's transaction.
     id                  INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 9007199254740991),
     queue               TEXT    NOT NULL DEFAULT 'default',
     type                TEXT    NOT NULL,
     priority            INTEGER NOT NULL DEFAULT 2 CHECK (priority BETWEEN 0 AND 4),
     state               TEXT    NOT NULL DEFAULT 'ready',
     payload             TEXT    NOT NULL CHECK (json_valid(payload)),
     attempt             INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 9007199254740991),
     budget_from         INTEGER NOT NULL DEFAULT 0 CHECK (budget_from BETWEEN 0 AND attempt),
     max_attempts        INTEGER NOT NULL DEFAULT 12 CHECK (max_attempts BETWEEN 1 AND 1000),
     backoff             TEXT    CHECK (backoff IS NULL OR json_valid(backoff)),
     timeout             INTEGER NOT NULL DEFAULT 900000 CHECK (timeout BETWEEN 1 AND 3153600000000),
     on_timeout          TEXT    NOT NULL DEFAULT 'retry' CHECK (on_timeout IN ('retry', 'dead')),
     visibility_timeout  INTEGER NOT NULL DEFAULT 30000 CHECK (visibility_timeout BETWEEN 1 AND 3153600000000),
     run_at              INTEGER CHECK (run_at BETWEEN 0 AND 8640000000000000),
     deadline            INTEGER CHECK (deadline BETWEEN 0 AND 8640000000000000),
     created_at          INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
                                 CHECK (created_at BETWEEN 0 AND 8640000000000000),
     idempotency_key     TEXT,
     concurrency_key     TEXT,
     -- 0: it may start. 1: it waits for a place of its concurrency key. 2: nobody has admitted it yet.
     blocked             INTEGER NOT NULL DEFAULT 2 CHECK (blocked IN (0, 2) OR (blocked = 1 AND concurrency_key IS NOT NULL)),
     trace               TEXT    CHECK (trace IS NULL OR json_valid(trace)),
     ready_seq           INTEGER,
     lease_seq           INTEGER,
     lease_token         INTEGER,
     lease_expires_at    INTEGER CHECK (lease_expires_at BETWEEN 0 AND 8640000000000000),
     renewed_at          INTEGER,
     over_since          INTEGER,
     worker_id           INTEGER,
     company             INTEGER CHECK (company >= 0),
     losses              INTEGER NOT NULL DEFAULT 0,
     undelivered         INTEGER NOT NULL DEFAULT 0,
     asked               INTEGER,
     started_at          INTEGER CHECK (started_at BETWEEN 0 AND 8640000000000000),
     cancel_requested_at INTEGER CHECK (cancel_requested_at BETWEEN 0 AND 8640000000000000),
     finished_at         INTEGER CHECK (finished_at BETWEEN 0 AND 8640000000000000),
     prune_at            INTEGER CHECK (prune_at BETWEEN 0 AND 8640000000000000),
     progress            REAL CHECK (progress BETWEEN 0 AND 100),
     progress_message    TEXT,
     checkpoint          TEXT CHECK (checkpoint IS NULL OR json_valid(checkpoint)),
     result              TEXT,
     warning             TEXT,
     tick                INTEGER CHECK (tick BETWEEN 0 AND 8640000000000000),
     reason              TEXT CHECK (reason IN ('exhausted', 'permanent', 'timeout', 'expired')),
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
       ELSE 0 END)
   ) STRICT;

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
     queue      TEXT    NOT NULL,
     type       TEXT    NOT NULL,
     key        TEXT    NOT NULL,
     job_id     INTEGER NOT NULL,
     digest     TEXT    NOT NULL,
     expires_at INTEGER NOT NULL,
     PRIMARY KEY (queue, type, key)
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX gq_keys_expires ON gq_keys (expires_at);

   -- What submissions over the network were answered, for who did not hear it.
   CREATE TABLE gq_requests (
     request    TEXT    PRIMARY KEY,
     answer     TEXT    NOT NULL CHECK (json_valid(answer)),
     digest     TEXT,
     expires_at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX gq_requests_expires ON gq_requests (expires_at);

   CREATE TABLE gq_attempts (
     job_id        INTEGER NOT NULL REFERENCES gq_jobs (id) ON DELETE CASCADE,
     attempt       INTEGER NOT NULL,
     worker        TEXT,
     started_at    INTEGER NOT NULL,
     finished_at   INTEGER NOT NULL,
     outcome       TEXT    NOT NULL CHECK (outcome IN ('failed', 'timeout', 'lost', 'cancelled')),
     token         INTEGER,
     loss_id       INTEGER,
     error_name    TEXT,
     error_message TEXT,
     error_stack   TEXT,
     PRIMARY KEY (job_id, attempt)
   ) STRICT;
   CREATE INDEX gq_attempts_loss ON gq_attempts (loss_id) WHERE loss_id IS NOT NULL;

   -- One row each time that a process ended or fell silent while it held jobs: who was there is evidence.
   CREATE TABLE gq_losses (
     id      INTEGER PRIMARY KEY AUTOINCREMENT,
     process TEXT    NOT NULL,
     at      INTEGER NOT NULL,
     jobs    INTEGER NOT NULL,
     names   TEXT    NOT NULL CHECK (json_valid(names))
   ) STRICT;

   CREATE TABLE gq_workers (
     id          INTEGER PRIMARY KEY AUTOINCREMENT,
     name        TEXT    NOT NULL,
     slots       INTEGER NOT NULL,
     host        TEXT    NOT NULL,
     pid         INTEGER,
     pid_started TEXT,
     boot        TEXT,
     pid_space   TEXT,
     instance    TEXT    NOT NULL,
     overdue     TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(overdue)),
     lost_answers INTEGER NOT NULL DEFAULT 0,
     asked       INTEGER,
     loss_id     INTEGER,
     started_at  INTEGER NOT NULL,
     seen_at     INTEGER NOT NULL,
     stopping_at INTEGER,
     ended_at    INTEGER,
     -- Last, for it may be large: the columns before it are read without it.
     sources     TEXT    NOT NULL CHECK (json_valid(sources))
   ) STRICT;
   CREATE INDEX gq_workers_local ON gq_workers (id) WHERE ended_at IS NULL AND pid IS NOT NULL;
   CREATE INDEX gq_workers_remote ON gq_workers (seen_at) WHERE ended_at IS NULL AND pid IS NULL;
   CREATE INDEX gq_workers_ended ON gq_workers (ended_at) WHERE ended_at IS NOT NULL;
   CREATE INDEX gq_workers_instance ON gq_workers (instance);
   CREATE INDEX gq_losses_at ON gq_losses (at);
   CREATE INDEX gq_workers_overdue ON gq_workers (id) WHERE overdue <> '[]';

   CREATE TABLE gq_schedules (
     name       TEXT PRIMARY KEY,
     cron       TEXT    NOT NULL,
     timezone   TEXT    NOT NULL,
     spec       TEXT    NOT NULL CHECK (json_valid(spec)),
     payload    TEXT    NOT NULL CHECK (json_valid(payload)),
     missed     TEXT    NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
     overlap    TEXT    NOT NULL CHECK (overlap IN ('allow', 'skip')),
     paused     INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
     next_at    INTEGER,
     owed_at    INTEGER,
     last_at    INTEGER,
     last_job   INTEGER,
     problem    TEXT CHECK (problem IS NULL OR json_valid(problem)),
     defined_at INTEGER NOT NULL,
     defined_by TEXT    NOT NULL CHECK (json_valid(defined_by))
   ) STRICT;
   CREATE INDEX gq_schedules_next ON gq_schedules (next_at) WHERE paused = 0 AND next_at IS NOT NULL;

   -- Who may call a server. Hashes are of 256 random bits, which no one can guess: they need no salt.
   CREATE TABLE gq_tokens (
     id           INTEGER PRIMARY KEY,
     name         TEXT    NOT NULL UNIQUE,
     scopes       TEXT    NOT NULL,
     hash         TEXT    NOT NULL CHECK (length(hash) = 64),
     created_at   INTEGER NOT NULL,
     last_used_at INTEGER,
     revoked_at   INTEGER
   ) STRICT;

   CREATE TABLE gq_audit (
     id      INTEGER PRIMARY KEY,
     at      INTEGER NOT NULL,
     who     TEXT    NOT NULL,
     action  TEXT    NOT NULL,
     target  TEXT    NOT NULL,
     details TEXT    CHECK (details IS NULL OR json_valid(details))
   ) STRICT;

   INSERT INTO sqlite_sequence (name, seq) VALUES ('gq_jobs', 0), ('gq_file', abs(random() / 65536));
   -- Names this file: a restored or replaced one gets another, so that tokens and worker ids of the old one fit nothing.
   INSERT INTO gq_meta (key, value) VALUES ('epoch', lower(hex(randomblob(8))));`
