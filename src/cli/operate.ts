import { type Command, Option } from 'commander'
import { GopherQueueError, invalid, notFound } from '../model/errors.ts'
import type { Job } from '../model/job.ts'
import { next, states } from '../model/lifecycle.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { JobsFilter, ManyOptions } from '../queue/many.ts'
import type { QueuePage, QueueStats } from '../store/store.ts'
import { action, ids, instant, whole } from './arguments.ts'
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
type Chosen = JobsFilter & ManyOptions & { all?: boolean; dryRun?: boolean }

/** What operators do to jobs and queues. */
export function operateCommands(root: Command): void {
  for (const [name, deed] of Object.entries(deeds))
    root
      .command(name)
      .description(`${deed.what}: those named, or all of a filter; exit status 1 if one that is named was refused`)
      .argument('[id...]', 'job ids', ids)
      .addOption(new Option('--state <state>', 'jobs in this state').choices(states))
      .option('--queue <name>', 'jobs of this queue')
      .option('--type <type>', 'jobs of this type')
      .option('--text <text>', 'jobs with this in their payload or a key')
      .option('--cause <cause>', 'jobs that are dead of this cause, or fail of it now, as `dead` and `failing` name it')
      .option('--failing', 'jobs that fail now, their last attempt having failed')
      .option('--since <instant>', 'submitted then or later', instant)
      .option('--until <instant>', 'submitted before', instant)
      .option('--limit <n>', 'of a filter, the newest n that it fits: to try some first', whole)
      .option('--all', 'all jobs that it fits')
      .option('--dry-run', 'change nothing: say what would be changed')
      .action(action((queue, wanted: number[] | undefined, chosen: Chosen) => act(queue, deed, wanted ?? [], chosen)))
  oneQueue('pause', 'start no more jobs of a queue; running ones go on')
  oneQueue('resume', 'let a paused queue go on')

  function oneQueue(name: 'pause' | 'resume', what: string): void {
    const command = root.command(name).description(what)
    const one = async (queue: GopherQueue, line: string, { create }: { create?: true }) => {
      if (!create && line !== 'default') await mustBeThere(queue, line)
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
  const most = { ...(limit !== undefined && { limit }), onProgress: tellProgress }
  const changed = dryRun ? Math.min(limit ?? Number.POSITIVE_INFINITY, await fitting(queue, deed, filter)) : await deed.all(queue, filter, most) // biome-ignore format: one line
  if (!dryRun) tellProgress(null)
  show({ changed, dryRun }, () => print(`${changed} ${changed === 1 ? 'job' : 'jobs'}${dryRun ? ' would be changed' : ' changed'}`)) // biome-ignore format: one line
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

/** The state that an event would lead to. Throws NOT_FOUND, INVALID_STATE. */
async function wouldBe(queue: GopherQueue, event: Deed['event'], id: number): Promise<string> {
  const job = await queue.job(id)
  if (!job) throw notFound(id)
  const to = after(job, event)
  if (to === undefined)
    throw new GopherQueueError('INVALID_STATE', `Job ${id} is ${job.state}: '${event}' does not fit that.`)
  return to ?? 'removed'
}

const after = ({ state }: Job, event: Deed['event']) => next(state, event === 'cancel' && state === 'running' ? 'requestCancel' : event) // biome-ignore format: one line

/** How many jobs of a filter an event fits. */
async function fitting(queue: GopherQueue, { event }: Deed, filter: JobsFilter): Promise<number> {
  let count = 0
  for (let cursor: number | null | undefined; cursor !== null; ) {
    const page = await queue.jobs({ ...filter, limit: 1000, ...(cursor !== undefined && { cursor }) })
    count += page.jobs.filter((job) => after(job, event) !== undefined).length
    cursor = page.next
  }
  return count
}

/** All queues, page by page. */
export async function* allQueues(queue: GopherQueue): AsyncGenerator<QueueStats> {
  for (let after: string | null = ''; after !== null; ) {
    const page: QueuePage = await queue.queues(after)
    yield* page.queues
    after = page.next
  }
}

/** A misspelt name would be paused with success, while the queue that was meant goes on. */
export async function mustBeThere(queue: GopherQueue, line: string): Promise<void> {
  const names: string[] = []
  for await (const { queue: name } of allQueues(queue)) {
    if (name === line) return
    if (names.length <= 10) names.push(`'${name}'`)
  }
  const some = `${names.slice(0, 10).join(', ')}${names.length > 10 ? ' and others' : ''}`
  throw new GopherQueueError(
    'NOT_FOUND',
    `There is no queue '${line}'; there ${names.length > 0 ? `are ${some}` : 'is none yet'}. Nothing was changed: correct the name, or --create.`,
  )
}
