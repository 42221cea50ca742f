import { styleText } from 'node:util'
import type { Command } from 'commander'
import { retryTimes } from '../model/backoff.ts'
import { systemClock } from '../model/clock.ts'
import { formatMs } from '../model/duration.ts'
import { GopherQueueError } from '../model/errors.ts'
import type { Attempt, Job } from '../model/job.ts'
import { isTerminal, states } from '../model/lifecycle.ts'
import { rateText } from '../model/rate.ts'
import { escaped } from '../model/text.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { ServerStats, Stats } from '../store/store.ts'
import { filtered, look, whole } from './arguments.ts'
import { forPeople, json, paint, print, safe, show, table, toLine, when } from './output.ts'
import { scheduleTable } from './schedule.ts'

/** Reading jobs, and all that there is at a glance. */
export function inspectCommands(root: Command): void {
  filtered(root.command('jobs'))
    .description('list jobs, newest first; the id of the last one is the --cursor of the next page')
    .option('--limit <n>', 'most jobs shown, 1 to 1000', whole, 100)
    .option('--cursor <id>', 'go on after this job', whole)
    .option('--oldest', 'oldest first')
    .action(look(jobs))
  root
    .command('job')
    .description('show a job, its attempts with their errors, and what happens next')
    .argument('<id>', 'job id', whole)
    .option('--evidence', 'all that is known of it as one JSON document, to be kept or sent')
    .action(
      look(async (queue, id: number, { evidence }: { evidence?: true }) => {
        const { job, why } = await find(queue, id)
        const history = await queue.history(id)
        const at = systemClock.now()
        const known = { job, why, history, retryTimes: isTerminal(job.state) ? [] : retryTimes(job, job.runAt ?? at) }
        if (evidence)
          return print(
            JSON.stringify({ evidenceOf: id, at, ...known }, null, 2)
              .split('\n')
              .map(escaped)
              .join('\n'),
          )
        return show({ ...job, history, why }, () => describe(job, history, why))
      }),
    )
  root
    .command('why')
    .description('say why a job is not running, or what became of it, and what happens next')
    .argument('<id>', 'job id', whole)
    .action(
      look(async (queue, id: number) => {
        const { why } = await find(queue, id)
        show({ id, why }, () => print(safe(why)))
      }),
    )
  root
    .command('stats')
    .description('show health, the file, queues, workers, schedules, and types that no worker handles')
    .action(look(stats))
}

type Filter = Parameters<GopherQueue['jobs']>[0] & { oldest?: true }

async function jobs(queue: GopherQueue, { oldest, ...filter }: Filter): Promise<void> {
  const page = await queue.jobs({
    ...filter,
    order: oldest ? 'oldest' : filter.state === 'scheduled' ? 'due' : 'newest',
  })
  if (json) return void page.jobs.map((job) => print(toLine(job)))
  const failed = page.jobs.some(({ lastError }) => lastError !== null)
  const rows = page.jobs.map((job) => {
    const [error, payload] = [job.lastError ?? '', JSON.stringify(job.payload)]
    return [
      ...[`${job.id}`, stateOf(job), job.type, job.queue, job.priority, `${job.attempt}/${job.maxAttempts}`],
      when((job.state === 'scheduled' ? job.runAt : (job.finishedAt ?? job.startedAt)) ?? job.createdAt),
      ...(!forPeople ? [payload, error] : failed ? [error, payload] : [payload]),
    ]
  })
  const last = failed ? ['LAST ERROR', 'PAYLOAD'] : ['PAYLOAD']
  table(['ID', 'STATE', 'TYPE', 'QUEUE', 'PRIORITY', 'TRIES', 'WHEN', ...last], rows)
  if (page.next !== null && forPeople) print(`\nMore: --cursor ${page.next}`)
}

async function stats(queue: GopherQueue): Promise<void> {
  const [all, { status, causes }, schedules] = await Promise.all([
    queue.stats(),
    queue.health(),
    queue.schedules({ payloads: json }),
  ])
  show({ ...all, health: { status, causes }, schedules }, () => {
    const oldest = all.oldestReadyMs === null ? 'none' : formatMs(all.oldestReadyMs)
    table(['STATE', 'OLDEST READY'], [[status, oldest]], 'health')
    for (const { code, message } of causes)
      if (forPeople) print(`${safe(`${code}: ${message}`)}\n`)
      else table([], [[code, message]], 'cause')
    const { file, server } = all
    if (file) table(['FILE BYTES', 'FREE IN IT', 'WAL BYTES'], [[`${file.bytes}`, `${file.freeBytes}`, `${file.walBytes}`]], 'file') // biome-ignore format: one line
    if (server) serverTable(server)
    queueTable(all.queues)
    if (all.others.queues > 0 && forPeople) print(`\nand ${all.others.queues} more: gopherqueue queue list\n`)
    const workerRows = all.workers.map(({ name, alive, host, pid, running, slots, startedAt, sources }) => [
      ...[name, alive ? 'alive' : 'gone', host, `${pid ?? 'none'}`, `${running}/${slots}`, when(startedAt)],
      sources.map((source) => `${source.queue}:${source.type}`).join(' '),
    ])
    table(['WORKER', 'STATE', 'HOST', 'PID', 'BUSY', 'STARTED', 'HANDLES'], workerRows, 'worker')
    scheduleTable(schedules, 'schedule')
    const unhandledRows = all.unhandled.map(({ queue: name, type }) => [type, name])
    table(['UNHANDLED TYPE', 'QUEUE'], unhandledRows, 'unhandled')
  })
}

/** Of a PostgreSQL server; what the role may not see is `unknown`. */
function serverTable({ figures, problem }: ServerStats): void {
  if (!figures) return void table(['SERVER'], [[problem!]], 'server')
  const { tables, connections, standbys, snapshots } = figures
  const bytes = tables.reduce((sum, one) => sum + one.bytes, 0)
  const oldest = snapshots && (snapshots[0] ? formatMs(snapshots[0].ms) : 'none')
  const row = [bytes, `${connections.all}/${connections.most}`, standbys?.length, oldest]
  const heads = ['TABLE BYTES', 'CONNECTIONS', 'STANDBYS', 'OLDEST SNAPSHOT']
  table(heads, [row.map((cell) => `${cell ?? 'unknown'}`)], 'server')
}

/** On a narrow screen without the limits, which `queue` shows. */
function queueTable(queues: Stats['queues']): void {
  const limits = !forPeople || process.stdout.columns >= wideEnough
  const rows = queues.map(({ queue: name, paused, maxDepth, maxRunning, rate, counts }) => [
    ...[name, paused ? 'paused' : 'open'],
    ...(limits ? [`${maxDepth ?? 'none'}`, `${maxRunning ?? 'none'}`, rate ? rateText(rate) : 'none'] : []),
    ...states.map((state) => `${counts[state]}`),
  ])
  const heads = [...(limits ? ['LIMIT', 'AT ONCE', 'RATE'] : []), ...states.map((state) => state.toUpperCase())]
  table(['QUEUE', 'STATE', ...heads], rows, 'queue')
}
const wideEnough = 120

async function find(queue: GopherQueue, id: number): Promise<{ job: Job; why: string }> {
  const [job, why] = await Promise.all([queue.job(id), queue.why(id)])
  if (!job) throw new GopherQueueError('NOT_FOUND', why)
  return { job, why }
}

const stateOf = ({ state, reason, cancelRequestedAt }: Job): string =>
  reason ? `${state} (${reason})` : state === 'running' && cancelRequestedAt !== null ? 'running (to stop)' : state

/** A line for each field that has a value, under the name that it has in --json, and for each attempt. */
function describe(job: Job, history: Attempt[], why: string): void {
  for (const [name, value] of Object.entries({ ...job, why })) {
    if (value === null) continue
    const text = inWords(name, value)
    if (forPeople) print(`${styleText('bold', name.padEnd(17))}  ${paint(safe(text))}`)
    else table([], [[name, text]])
  }
  for (const { attempt, outcome, worker, startedAt, finishedAt, error, beside } of history) {
    const lines = error ? (error.stack || `${error.name}: ${error.message}`).split('\n') : []
    const others = beside?.jobs.map(({ id, type }) => `${type} ${id}`) ?? []
    const company = others.length > 0 ? [`beside ${others.join(', ')}`] : []
    if (forPeople) lines.push(...company)
    const took = finishedAt === null ? 'so far' : formatMs(finishedAt - startedAt)
    const row = ['attempt', `${attempt}`, outcome, took, when(startedAt), worker ?? '']
    table([], [forPeople ? row : [...row, lines.join('\n'), ...company]])
    if (forPeople) for (const line of lines) print(`    ${safe(line)}`)
  }
}

function inWords(name: string, value: unknown): string {
  const isJson = ['payload', 'result', 'checkpoint'].includes(name)
  if (typeof value === 'string' && !isJson) return value
  if (typeof value === 'number' && /(At|deadline)$/.test(name)) return when(value, true)
  if (typeof value === 'number' && /imeout$/.test(name)) return formatMs(value)
  const all = JSON.stringify(value)
  return forPeople && all.length > 2000 ? `${all.slice(0, 2000)}… (${all.length} characters; --json has all)` : all
}
