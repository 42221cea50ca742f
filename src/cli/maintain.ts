import { mkdtempSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { systemClock } from '../model/clock.ts'
import { toMs } from '../model/duration.ts'
import { invalid } from '../model/errors.ts'
import { GopherQueue } from '../queue/gopherqueue.ts'
import { isPostgres } from '../queue/options.ts'
import { note } from '../store/sqlite/record.ts'
import { databaseOf, fileOf, open, openToLook, serverOf, who, whole } from './arguments.ts'
import { print, show } from './output.ts'

/** What an operator does to a file as a whole. */
export function maintainCommands(root: Command): void {
  root
    .command('prune')
    .description('delete ended jobs now, of one state and older than some time; retention does it by itself')
    .addOption(new Option('--state <state>').choices(['succeeded', 'dead', 'cancelled']).makeOptionMandatory())
    .requiredOption('--older-than <duration>', 'since their end, such as 0s or 30d')
    .option('--queue <name>', 'only jobs of this queue')
    .option('--type <type>', 'only jobs of this type')
    .option('--dry-run', 'delete nothing: say how many would be deleted')
    .action(pruneAndTell)
  root
    .command('migrate')
    .description("make the queue's tables in a PostgreSQL database, or bring them to this version, as their owner")
    .option('--grant <roles...>', 'let these roles use the queue: its rows, and no more')
    .action(migrate)
  root
    .command('bench')
    .description('measure submissions and work on the disk of --db, in a file of its own beside it')
    .option('--jobs <n>', 'jobs of each measurement', whole, 20_000)
    .action(bench)
}

async function migrate({ grant = [] }: { grant?: string[] }, command: Command): Promise<void> {
  const db = databaseOf(command)
  if (!isPostgres(db)) throw invalid('A file is brought to a new version by the first process that opens it: there is nothing to do.') // biome-ignore format: one line
  const { bringForward } = await import('../store/postgres/open.ts') // and with it the driver, which others need not have
  const done = await bringForward(db, grant)
  const { schema, from, to, granted } = done
  const did = from === 0 ? `made, version ${to}` : from === to ? `has version ${to} already` : `brought from version ${from} to ${to}` // biome-ignore format: one line
  show(done, () => {
    print(`${schema}: ${did}`)
    for (const role of granted) print(`${schema}: ${role} may use it`)
  })
}

type Choice = {
  state: 'succeeded' | 'dead' | 'cancelled'
  olderThan: string
  queue?: string
  type?: string
  dryRun?: boolean
}

/** One entry of the audit log for all of them; a server writes its own. */
async function pruneAndTell(choice: Choice, command: Command): Promise<void> {
  const removed = await prune(choice, command)
  const { dryRun = false, ...filter } = choice
  show({ removed, ...(dryRun && { dryRun }) }, () => print(`${removed} ${dryRun ? 'would be removed' : 'removed'}`))
  if (removed === 0 || dryRun || serverOf(command).url) return
  note(fileOf(command), { who: who(), action: 'prune', target: 'jobs', details: { filter, changed: removed } }, systemClock.now()) // biome-ignore format: long
}

async function prune({ olderThan, dryRun = false, ...filter }: Choice, command: Command): Promise<number> {
  await using queue = dryRun ? await openToLook(command) : await open(command, 'refuse', false)
  const endedBefore = systemClock.now() - toMs(olderThan, '--older-than') + 1
  if (!dryRun) return await queue.removeAll({ ...filter, endedBefore })
  let removed = 0
  for (let cursor: number | null = 0; cursor !== null; ) {
    const page = await queue.jobs({ ...filter, endedBefore, order: 'oldest', limit: 1000, cursor })
    removed += page.jobs.length
    cursor = page.next
  }
  return removed
}

/** Each beside the others on the same disk; who wants a raw limit and other queues beside it runs the repository's bench. */
async function bench({ jobs }: { jobs: number }, command: Command): Promise<void> {
  const folder = mkdtempSync(join(dirname(resolve(fileOf(command))), 'gopherqueue-bench-'))
  try {
    await using queue = await GopherQueue.open(join(folder, 'bench.db'))
    const { promise: done, resolve: end } = Promise.withResolvers<void>()
    let left = jobs
    queue.define('bench', {}, () => void (--left === 0 && end()))
    const timed = async (count: number, work: () => Promise<unknown>) => {
      const start = systemClock.monotonic()
      await work()
      return Math.round((count / (systemClock.monotonic() - start)) * 1000)
    }
    const payload = { to: 'someone@example.com', body: 'x'.repeat(160) }
    const few = Math.min(1000, jobs)
    const oneByOne = await timed(few, async () => {
      for (let i = 0; i < few; i++) await queue.submit('bench', payload)
    })
    const rest = jobs - few
    const by100 = await timed(rest, () => {
      let next = 0
      const submitter = async () => {
        while (next++ < rest) await queue.submit('bench', payload)
      }
      return Promise.all(Array.from({ length: 100 }, submitter))
    })
    const worked = await timed(jobs, async () => {
      queue.work({ concurrency: 100 })
      await done
    })
    const figures = { submitOneByOne: oneByOne, submitBy100: by100, work: worked }
    show(figures, () => {
      for (const [what, rate] of Object.entries(figures))
        print(`${what.padEnd(16)}${rate.toLocaleString('en').padStart(9)} jobs/s`)
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
