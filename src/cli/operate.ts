import type { Command } from 'commander'
import { wrongName } from '../model/admission.ts'
import { GopherQueueError, invalid, notFound } from '../model/errors.ts'
import type { Job } from '../model/job.ts'
import { isWaiting, next } from '../model/lifecycle.ts'
import { near } from '../model/names.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { JobsFilter, ManyOptions } from '../queue/many.ts'
import type { QueuePage, QueueStats } from '../store/store.ts'
import { action, filtered, ids, look, whole } from './arguments.ts'
import { forPeople, print, report, show, table } from './output.ts'

/** What an operator can do to jobs: to one by its id, and to all of a filter. */
const deeds = {
  retry: {
    event: 'retry',
    what: 'make dead or cancelled jobs ready again, without a deadline that has passed',
    one: async (queue: GopherQueue, id: number) => (await queue.retry(id)).state,
    all: (queue: GopherQueue, filter: JobsFilter, options: ManyOptions) => queue.retryAll(filter, options),
  },
  cancel: {
    event: 'cancel',
    what: 'end waiting jobs, ask running ones to stop',
    one: async (queue: GopherQueue, id: number) => (await queue.cancel(id)).state,
    all: (queue: GopherQueue, filter: JobsFilter, options: ManyOptions) => queue.cancelAll(filter, options),
  },
  'run-now': {
    event: 'runNow',
    what: 'make jobs ready that wait for their time: a delay, a retry, or what their handler put off',
    one: async (queue: GopherQueue, id: number) => (await queue.runNow(id)).state,
    all: (queue: GopherQueue, filter: JobsFilter, options: ManyOptions) => queue.runAllNow(filter, options),
  },
  rm: {
    event: 'remove',
    what: 'delete ended jobs and their history',
    one: (queue: GopherQueue, id: number) => queue.remove(id).then(() => 'removed'),
    all: (queue: GopherQueue, filter: JobsFilter, options: ManyOptions) => queue.removeAll(filter, options),
  },
} as const
type Deed = (typeof deeds)[keyof typeof deeds]
const givingUp = {
  ...deeds.cancel,
  one: async (queue: GopherQueue, id: number) => (await queue.cancel(id, { endLease: true })).state,
}
type Chosen = JobsFilter & ManyOptions & { all?: boolean; dryRun?: boolean }

/** What operators do to jobs and queues. */
export function operateCommands(root: Command): void {
  for (const [name, deed] of Object.entries(deeds))
    filtered(root.command(name))
      .description(`${deed.what}: those named, or all of a filter; exit status 1 if one that is named was refused`)
      .argument('[id...]', 'job ids', ids)
      .option('--limit <n>', 'of a filter, the newest n that it fits: to try some first', whole)
      .option('--all', 'all jobs that it fits')
      .option('--dry-run', 'change nothing: say how many would be changed, and show some')
      .action((wanted: number[] | undefined, chosen: Chosen, command: Command) => {
        const opened = chosen.dryRun ? look : action
        return opened((queue) => act(queue, deed, wanted ?? [], chosen))(command)
      })
  root
    .command('end-lease')
    .description('end running jobs, cancelled, that were asked to stop and do not; their handlers may still run')
    .argument('<id...>', 'job ids', ids)
    .action(action((queue, wanted: number[]) => eachOf(queue, givingUp, wanted, false)))
  oneQueue('pause', 'start no more jobs of a queue; running ones go on')
  oneQueue('resume', 'let a paused queue go on')

  function oneQueue(name: 'pause' | 'resume', what: string): void {
    const command = root.command(name).description(what)
    const one = async (queue: GopherQueue, line: string, { create }: { create?: true }) => {
      if (!create) await mustBeThere(queue, line)
      await queue[name](line)
      show({ queue: line, paused: name === 'pause' }, () => table([], [[line, `${name}d`]]))
    }
    command
      .argument('[queue]', 'name of the queue', 'default')
      .option('--create', 'also a queue that had no job yet')
      .action(action(one))
  }
}

async function act(
  queue: GopherQueue,
  deed: Deed,
  wanted: number[],
  { all, dryRun = false, limit, ...filter }: Chosen,
) {
  const isFiltered = Object.keys(filter).length > 0 || all === true
  if (isFiltered === wanted.length > 0 || (limit !== undefined && !isFiltered))
    throw invalid('Name the jobs by their ids, or by a filter such as --type TYPE; --all means all that it fits.')
  if (!isFiltered) return eachOf(queue, deed, wanted, dryRun)
  const jobs = (count: number) => `${count} ${count === 1 ? 'job' : 'jobs'}`
  if (!dryRun) {
    const changed = await deed.all(queue, filter, {
      ...(limit !== undefined && { limit }),
      onProgress: stoppable(jobs),
    })
    tellProgress(null)
    return show({ changed, dryRun }, () => print(`${jobs(changed)} changed`))
  }
  const { changed: fit, sample: first } = await fitting(queue, deed.event, filter)
  const changed = Math.min(limit ?? fit, fit)
  const sample = first.slice(0, changed)
  show({ changed, dryRun, sample }, () => {
    print(`${jobs(changed)} would be changed`)
    table(['ID', 'STATE', 'WOULD BE', 'TYPE', 'QUEUE'], sample.map(({ id, state, to, type, queue: line }) => [`${id}`, state, to, type, line]), 'job') // biome-ignore format: long
    if (forPeople && changed > sample.length) print(`and ${changed - sample.length} more`)
  })
}

/** Ctrl-C ends it after a step, as only then it is known how many were changed; a second one ends the process. */
function stoppable(jobs: (count: number) => string): (changed: number) => void {
  let isAsked = false
  process.once('SIGINT', () => {
    isAsked = true
  })
  return (changed) => {
    tellProgress(isAsked ? null : changed)
    if (isAsked) throw Object.assign(new Error(`${jobs(changed)} changed, then stopped.`), { code: 'INTERRUPTED' })
  }
}

/** Of many, so that nobody thinks it hangs; null: they are done. */
function tellProgress(changed: number | null): void {
  if (forPeople) process.stderr.write(changed === null ? '\r\x1b[K' : `\r\x1b[K${changed} jobs…`)
}

async function eachOf(queue: GopherQueue, { event, one }: Deed, wanted: number[], dryRun: boolean): Promise<void> {
  for (const id of wanted)
    try {
      const state = dryRun ? await wouldBe(queue, event, id) : await one(queue, id)
      show({ id, state, ...(dryRun && { dryRun }) }, () => table([], [[`${id}`, state === 'running' ? 'running (to stop)' : state, ...(dryRun ? ['(dry run)'] : [])]])) // biome-ignore format: one line
    } catch (error) {
      process.exitCode = 1
      report(error)
    }
}

/** As the first write of the real run would find it: a job of plain SQL whose names are wrong ends dead as it is admitted, and stays so. */
const asAdmitted = (job: Job): { state: Job['state']; wrong: string | null } => {
  const wrong = wrongName(job)
  return { state: wrong !== null && isWaiting(job.state) ? 'dead' : job.state, wrong }
}

/** The state that an event would lead to. Throws NOT_FOUND, INVALID_STATE. */
async function wouldBe(queue: GopherQueue, event: Deed['event'], id: number): Promise<string> {
  const job = await queue.job(id)
  if (!job) throw notFound(id)
  const to = after(job, event)
  if (to === undefined) {
    const { state, wrong } = asAdmitted(job)
    throw new GopherQueueError('INVALID_STATE', `Job ${id} is ${state}: ${wrong === null || event !== 'retry' ? `'${event}' does not fit that.` : `it can never run. ${wrong}`}`) // biome-ignore format: long
  }
  return to ?? 'removed'
}

/** Undefined where the event does not fit. */
function after(job: Job, event: Deed['event']) {
  const { state, wrong } = asAdmitted(job)
  if (event === 'retry' && wrong !== null) return undefined
  return next(state, event === 'cancel' && state === 'running' ? 'requestCancel' : event)
}

/** What a dry run shows of the jobs of a filter. */
interface Sampled {
  id: number
  state: string
  /** The state that it would have, or 'removed'. */
  to: string
  type: string
  queue: string
}
const sampled = 10

/** How many jobs of a filter an event would change, and the first of them. Keys that are taken make a retry fail. */
async function fitting(queue: GopherQueue, event: Deed['event'], filter: JobsFilter) {
  const sample: Sampled[] = []
  const held: Held = new Map()
  let changed = 0
  for (let cursor: number | null | undefined; cursor !== null; ) {
    const page = await queue.jobs({ ...filter, limit: 1000, ...(cursor !== undefined && { cursor }) })
    for (const job of page.jobs) {
      const to = after(job, event)
      if (to === undefined || (event === 'retry' && (await isTaken(queue, job, held)))) continue
      if (++changed <= sampled) sample.push({ id: job.id, state: job.state, to: to ?? 'removed', type: job.type, queue: job.queue }) // biome-ignore format: long
    }
    cursor = page.next
  }
  return { changed, sample }
}

/** Unique keys by queue and type that are held, as far as they were asked for. */
type Held = Map<string, Set<string>>

/** Whether the unique key of an ended job is another's by the time of its retry; of several jobs of a key the first gets it. */
async function isTaken(queue: GopherQueue, { queue: line, type, uniqueKey }: Job, held: Held): Promise<boolean> {
  if (uniqueKey === null) return false
  const name = JSON.stringify([line, type])
  const keys = held.get(name) ?? (await keysOf(queue, { queue: line, type }))
  held.set(name, keys)
  return keys.size === keys.add(uniqueKey).size
}

async function keysOf(queue: GopherQueue, line: { queue: string; type: string }): Promise<Set<string>> {
  const keys = new Set<string>()
  for (const state of ['scheduled', 'ready', 'running'] as const)
    for (let cursor: number | null | undefined; cursor !== null; ) {
      const page = await queue.jobs({ ...line, state, limit: 1000, ...(cursor !== undefined && { cursor }) })
      for (const { uniqueKey } of page.jobs) if (uniqueKey !== null) keys.add(uniqueKey)
      cursor = page.next
    }
  return keys
}

/** All queues, page by page. */
export async function* allQueues(queue: GopherQueue): AsyncGenerator<QueueStats> {
  for (let after: string | null | undefined; after !== null; ) {
    const page: QueuePage = await queue.queues(after)
    yield* page.queues
    after = page.next
  }
}

/** A misspelt name would be paused with success, while the queue that was meant goes on. */
export async function mustBeThere(queue: GopherQueue, line: string): Promise<void> {
  const known: string[] = []
  for await (const { queue: name } of allQueues(queue)) {
    if (name === line) return
    known.push(name)
  }
  const quoted = (names: string[]) => names.map((name) => `'${name}'`).join(', ')
  const meant = near(line, known).slice(0, 3)
  const others = known.length > 10 ? ` and ${known.length - 10} others` : ''
  const hint =
    meant.length > 0 ? `did you mean ${quoted(meant).replaceAll(', ', ' or ')}?` : known.length > 0 ? `there are ${quoted(known.slice(0, 10))}${others}.` : 'there is none yet.' // biome-ignore format: long
  throw new GopherQueueError(
    'NOT_FOUND',
    `There is no queue '${line}'; ${hint} Nothing was changed: correct the name, or --create.`,
  )
}
