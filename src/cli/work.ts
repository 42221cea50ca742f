import type { Command } from 'commander'
import { type DurationText, systemClock } from '../model/clock.ts'
import { formatMs, toMs } from '../model/duration.ts'
import type { QueueEvents } from '../queue/events.ts'
import { listen } from '../queue/signals.ts'
import { open, whole } from './arguments.ts'
import { runCommand } from './exec.ts'
import { json, print, report, safe, toLine } from './output.ts'

export function workCommand(root: Command): void {
  root
    .command('work')
    .description('run a command for each job of a type, until SIGTERM or SIGINT')
    .argument('<type>', 'the jobs to take')
    .requiredOption(
      '--exec <command>',
      'given to the shell; it is killed with the worker, but on Windows, and but for children in sessions of their own (setsid)',
    )
    .option('--concurrency <n>', 'commands that run at once', whole, 10)
    .option('--queue <name>', "queue to take jobs from, or all whose names begin so: 'tenant-*', '*'", 'default')
    .option('--grace <duration>', 'how long running commands may go on after the first signal', '30s')
    .addHelpText('after', help)
    .action(work)
}

const help = `
The command gets the payload as JSON on stdin, and GOPHERQUEUE_JOB_ID, GOPHERQUEUE_ATTEMPT, GOPHERQUEUE_TYPE.
  exit 0         success; stdout is the result: JSON if it is that, else a string
  exit 65        permanent failure: the job is dead
  anything else  temporary failure, to be repeated; the end of stderr is the error
What a command leaves in the background goes on, and is not waited for: output counts until 1 s after the exit.
On timeout, cancellation or shutdown its process group gets SIGTERM, and SIGKILL after 5 s.
A first signal takes no more jobs and lets commands end; a second one stops them, and their jobs go back uncharged.
Each finished attempt is a line on stderr, or under --json an object on stdout.`

type Flags = Record<'exec' | 'queue', string> & { concurrency: number; grace: DurationText }

async function work(type: string, { exec, concurrency, queue: line, grace }: Flags, command: Command): Promise<void> {
  toMs(grace, '--grace') // a usage error before anything starts
  await using queue = await open(command, 'create')
  queue.define(type, {}, (job, { signal }) => runCommand(exec, job, signal))
  queue.on('succeeded', (job) => log('succeeded', job)) // its warning, if it has one, is an event of its own
  for (const outcome of ['retrying', 'dead', 'cancelled', 'released', 'leaseLost'] as const)
    queue.on(outcome, (...args: Told) => log(outcome, ...args))
  queue.on('warning', report)
  const worker = queue.work({ concurrency, queues: [line] })
  const asked = Promise.withResolvers<unknown>()
  listen(['SIGTERM', 'SIGINT'], asked.resolve, () => void worker.stop({ drain: false }))
  tell(`worker ${worker.name} takes jobs of type '${type}', ${concurrency} at once`)
  await asked.promise
  tell(`stopping: ${worker.running} running may go on for ${grace}; a second signal stops them`)
  await worker.stop({ grace })
}

const tell = (what: string): unknown =>
  json || process.stderr.write(`${new Date(systemClock.now()).toISOString()} ${safe(what)}\n`)

type Told = QueueEvents['dead' | 'released']

/** One line for each finished attempt. */
function log(outcome: string, ...[{ id, attempt, maxAttempts, startedAt }, told, fate]: Told): void {
  const durationMs = Math.max(0, systemClock.now() - startedAt)
  const error = told?.message
  if (json) print(toLine({ id, attempt, outcome, durationMs, error, ...fate }))
  const again = fate?.runAt ? `, again at ${new Date(fate.runAt).toISOString()}` : ''
  const took = `attempt ${attempt} of ${maxAttempts} took ${formatMs(durationMs)}`
  tell(`job ${id} ${outcome}: ${took}${again}${error ? `: ${error}` : ''}`)
}
