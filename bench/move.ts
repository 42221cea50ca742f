// npm run bench:move [-- --jobs 1000000 --file FILE]: how long 'gopherqueue move' takes to a PostgreSQL server of its own on this machine.
// Half of the jobs are ready; of the others 4 in 5 have succeeded, half of the rest after a failure, half of it are dead of two.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GopherQueue } from '../src/index.ts'
import { systemClock } from '../src/model/clock.ts'
import { connect } from '../src/store/sqlite/connection.ts'
import { temporaryFolder } from '../tests/support/folder.ts'
import { PostgresServer } from '../tests/support/postgres.ts'

const { values: flags } = parseArgs({
  options: { jobs: { type: 'string', default: '1000000' }, file: { type: 'string' } },
})

async function fill(path: string, jobs: number): Promise<void> {
  const queue = await GopherQueue.open(path)
  await queue.submit('mail', 'the first')
  await queue.close()
  const { connection: db } = connect(path, systemClock)
  const now = Date.now()
  db.exec(`BEGIN;
    CREATE TEMP TABLE n AS WITH RECURSIVE n(id) AS (SELECT 2 UNION ALL SELECT id + 1 FROM n WHERE id < ${jobs})
      SELECT id, CASE WHEN id % 2 = 0 THEN 'ready' WHEN id % 20 = 1 THEN 'dead' ELSE 'succeeded' END AS state,
        CASE WHEN id % 2 = 0 THEN 0 WHEN id % 20 = 1 THEN 2 WHEN id % 20 = 3 THEN 2 ELSE 1 END AS attempt FROM n;
    INSERT INTO gq_jobs (id, type, payload, blocked, state, attempt, created_at, ready_seq, lease_seq, lease_token, worker_id,
        started_at, finished_at, prune_at, result, reason)
      SELECT id, 'mail', '{"to":"' || hex(randomblob(91)) || '"}', 0, state, attempt, ${now}, id,
        IIF(state <> 'ready', id, NULL), IIF(state = 'succeeded', id, NULL), IIF(state <> 'ready', 1, NULL),
        IIF(state <> 'ready', ${now} + 5, NULL), IIF(state <> 'ready', ${now} + 17, NULL),
        IIF(state = 'succeeded', ${now} + 86400000, NULL), IIF(state = 'succeeded', '{"sent":true}', NULL), IIF(state = 'dead', 'exhausted', NULL) FROM n;
    INSERT INTO gq_attempts (job_id, attempt, worker, started_at, finished_at, outcome, error_name, error_message, error_stack)
      SELECT id, t, 'web-1', ${now} + 5, ${now} + 9, 'failed', 'Error', 'connect ECONNREFUSED 10.0.0.7:25', 'Error: connect ECONNREFUSED 10.0.0.7:25' || char(10) || hex(randomblob(300))
      FROM n, (SELECT 1 AS t UNION SELECT 2) WHERE t <= attempt - (state = 'succeeded');
    UPDATE gq_queues SET ready = ${jobs / 2}, dead = ${Math.floor(jobs / 20)}, succeeded = ${jobs * 0.45};
    COMMIT; PRAGMA wal_checkpoint(TRUNCATE)`)
  db.close()
}

/** In seconds, of the processes that this one has started and that have ended. */
function processorTime(pid: number | 'self'): number {
  const [, rest] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ') as [string, string]
  const [user, system] = rest.split(' ').slice(13, 15).map(Number) as [number, number]
  return (user + system) / 100
}

using folder = temporaryFolder()
const kept = flags.file ?? folder.file('kept.db')
if (!existsSync(kept)) await fill(kept, Number(flags.jobs))
const file = folder.file('jobs.db')
copyFileSync(kept, file)
using server = new PostgresServer()
const master = Number(readFileSync(join(server.data, 'postmaster.pid'), 'utf8').split('\n')[0])
const main = join(import.meta.dirname, '../src/main.ts')
const url = server.url('moved')
const before = [processorTime('self'), processorTime(master)] as const
const start = performance.now()
execFileSync(process.execPath, [main, 'move', '--from', file, '--to', url, '--grace', '0s'])
const seconds = (performance.now() - start) / 1000
const [move, database] = [processorTime('self') - before[0], processorTime(master) - before[1]]
const load = readFileSync('/proc/loadavg', 'utf8').split(' ')[0]
process.stdout.write(
  `${server.sql('SELECT COUNT(*) FROM moved.gq_jobs')} jobs in ${seconds.toFixed(1)} s; processor time: ${move.toFixed(1)} s the move, ${database.toFixed(1)} s the server; load ${load}\n`,
)
