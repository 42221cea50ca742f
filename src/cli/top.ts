import { emitKeypressEvents } from 'node:readline'
import { styleText } from 'node:util'
import type { Command } from 'commander'
import { systemClock } from '../model/clock.ts'
import { formatMs } from '../model/duration.ts'
import { GopherQueueError, isQueueError } from '../model/errors.ts'
import type { Job } from '../model/job.ts'
import type { GopherQueue } from '../queue/gopherqueue.ts'
import type { Cause, QueueStats, Stats, StoreHealth } from '../store/store.ts'
import { open, openToLook } from './arguments.ts'
import { fit, paint, safe } from './output.ts'

/** What is on the screen: all of it as of one moment. */
export interface Look {
  at: number
  stats: Stats
  health: StoreHealth
  running: Job[]
  dead: Job[]
  /** The causes of which most jobs fail now. */
  failing: Cause[]
}
export type Row = { kind: 'queue'; name: string; paused: boolean } | { kind: 'job'; id: number; state: string }

export function topCommand(root: Command): void {
  root
    .command('top')
    .description('watch queues, running jobs and dead letters, and act on them')
    .addHelpText('after', `\n${help}`)
    .action(async (_options: object, command: Command) => {
      if (!process.stdout.isTTY || !process.stdin.isTTY)
        throw new GopherQueueError('INVALID_ARGUMENT', 'top needs a terminal; `stats` is for programs.')
      await using queue = await openToLook(command)
      await watch(queue, () => open(command, 'refuse'))
    })
}

const help = '↑↓ select · enter shows · p pause · r retry · c cancel · x remove · q quit'

/** The rows that can be selected, in the order in which they are shown. */
export const rowsOf = ({ stats, running, dead }: Look): Row[] => [
  ...stats.queues.map(({ queue, paused }): Row => ({ kind: 'queue', name: queue, paused })),
  ...[...running, ...dead].map(({ id, state }): Row => ({ kind: 'job', id, state })),
]

/** The screen's lines; rates are those since `before`. */
export function screen(now: Look, before: Look | null, selected: number, columns: number, lines: number): string[] {
  const { stats, health, running, dead, failing } = now
  const seconds = before ? (now.at - before.at) / 1000 : 0
  const rate = (queue: QueueStats, of: 'submitted' | 'succeeded' | 'failed') => {
    const old = before?.stats.queues.find(({ queue: name }) => name === queue.queue)
    return seconds > 0 && old ? `${((queue.totals[of] - old.totals[of]) / seconds).toFixed(1)}` : ''
  }
  const sum = (of: (queue: QueueStats) => number) =>
    stats.queues.reduce((all, queue) => all + of(queue), of({ ...stats.queues[0]!, ...stats.others }))
  const oldest = stats.oldestReadyMs === null ? '' : `, oldest ${formatMs(stats.oldestReadyMs)}`
  const busy = stats.workers.filter(({ alive }) => alive)
  const out: string[] = []
  const wide = columns >= 110
  const cells = (parts: [text: string, width: number, right?: boolean][]) =>
    parts.map(([text, width, right]) => fit(safe(text), width, right)).join(' ')
  const title = (text: string) => out.push(styleText(['bold', 'underline'], fit(` ${text}`, columns)))
  let row = 0
  let chosen = 0
  const put = (text: string) => {
    if (row === selected) chosen = out.length
    const line = fit(`${row++ === selected ? '>' : ' '}${text}`, columns)
    out.push(line.startsWith('>') ? styleText('inverse', line) : line)
  }
  const states = `${sum(({ counts }) => counts.ready)} ready${oldest} · ${sum(({ counts }) => counts.running)} running · ${sum(({ counts }) => counts.scheduled)} scheduled · ${sum(({ counts }) => counts.dead)} dead`
  out.push(`${paint(health.status)}  ${fit(states, columns - health.status.length - 2)}`)
  const slots = busy.reduce((all, { slots }) => all + slots, 0)
  out.push(
    fit(
      `${busy.length} ${busy.length === 1 ? 'worker' : 'workers'}, ${slots} ${slots === 1 ? 'slot' : 'slots'} · ${new Date(now.at).toISOString()}`,
      columns,
    ),
  )
  for (const { code, message } of health.causes.slice(0, 2)) out.push(fit(safe(`${code}: ${message}`), columns))
  for (const { count, type, cause } of failing) out.push(fit(safe(`${count} failing: ${type}: ${cause}`), columns))
  const name = wide ? Math.min(60, columns - 74) : 17
  const id = 14 // in a restored file they have 13 digits
  const rest = Math.max(1, columns - id - name - 23) // of a line of dead jobs
  title(cells([['QUEUE', name], ['STATE', 7], ['READY', 8, true], ['RUN', 5, true], ['LATER', 7, true], ['DEAD', 7, true], ['IN/S', 7, true], ['DONE/S', 7, true], ['FAIL/S', 6, true]])) // biome-ignore format: one row
  for (const queue of stats.queues) {
    const { counts } = queue
    put(cells([[queue.queue, name], [queue.paused ? 'paused' : 'open', 7], [`${counts.ready}`, 8, true], [`${counts.running}`, 5, true], [`${counts.scheduled}`, 7, true], [`${counts.dead}`, 7, true], [rate(queue, 'submitted'), 7, true], [rate(queue, 'succeeded'), 7, true], [rate(queue, 'failed'), 6, true]])) // biome-ignore format: one row
  }
  const age = (instant: number | null) => (instant === null ? '' : formatMs(Math.max(0, now.at - instant)))
  title(
    cells([
      ['RUNNING', id],
      ['TYPE', name],
      ['TRY', 6, true],
      ['FOR', 8],
      ['DONE', 5, true],
      ['WORKER', 20],
    ]),
  )
  for (const job of running) {
    const done = job.progress ? `${Math.round(job.progress.percent)}%` : ''
    put(cells([[`${job.id}`, id], [job.type, name], [`${job.attempt}`, 6, true], [age(job.startedAt), 8], [done, 5, true], [job.worker ?? '', 20]])) // biome-ignore format: one row
  }
  title(cells([['DEAD', id], ['TYPE', name], ['REASON', 10], ['AGO', 8], ['LAST ERROR', rest]])) // biome-ignore format: one row
  for (const job of dead)
    put(cells([[`${job.id}`, id], [job.type, name], [job.reason ?? '', 10], [age(job.finishedAt), 8], [job.lastError ?? '', rest]])) // biome-ignore format: one row
  const room = lines - 1
  const from = Math.max(0, Math.min(out.length - room, chosen - room + 3))
  return [...out.slice(from, from + room), styleText('dim', fit(help, columns))]
}

/** As much of each list as the screen has room for. */
async function look(queue: GopherQueue): Promise<Look> {
  const limit = Math.max(4, Math.floor(process.stdout.rows / 2) - 5)
  const [stats, health, running, dead, failing] = await Promise.all([
    queue.stats(),
    queue.health(),
    queue.jobs({ state: 'running', order: 'oldest', limit }),
    queue.jobs({ state: 'dead', limit }),
    queue.failing({ limit: 2 }).catch(notCounted),
  ])
  return { at: systemClock.now(), stats, health, running: running.jobs, dead: dead.jobs, failing: failing.causes }
}

/** A file of an older version has no causes. */
function notCounted(error: unknown): { causes: Cause[] } {
  if (isQueueError(error) && error.code === 'SCHEMA_TOO_OLD') return { causes: [] }
  throw error
}

/** Draws until q. What only looks on holds up no upgrade: the file is opened to be written for an action alone. */
async function watch(queue: GopherQueue, opened: () => Promise<GopherQueue>): Promise<void> {
  const { stdin, stdout } = process
  let now = await look(queue)
  let before: Look | null = null
  let selected = 0
  let note = ''
  /** A job that is shown in place of the lists. */
  let shown: string[] | null = null
  const draw = () => {
    const { columns, rows } = stdout
    const lines = shown ?? screen(now, before, selected, columns, rows - (note ? 1 : 0))
    stdout.write(
      `\u001B[H${[...(note ? [fit(note, columns)] : []), ...lines].slice(0, rows).join('\u001B[K\r\n')}\u001B[J`,
    )
  }
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()
  const act = async (key: string) => {
    const rows = rowsOf(now)
    const row = rows[selected]
    note = ''
    if (key === 'c-c' || ((key === 'q' || key === 'escape') && !shown)) return end()
    if (key === 'q' || key === 'escape') shown = null
    if (key === 'up') selected = Math.max(0, selected - 1)
    if (key === 'down') selected = Math.min(rows.length - 1, selected + 1)
    if (!row) return
    if (key === 'return' && row.kind === 'job') shown = await page(queue, row.id)
    if (row.kind === 'queue' ? key !== 'p' : !/^[rcx]$/.test(key)) return
    await using acting = await opened()
    note = await done(acting, row, key)
    now = await look(queue)
  }
  emitKeypressEvents(stdin)
  const onKey = (_: string, { name = '', ctrl }: { name?: string; ctrl?: boolean }) =>
    act(ctrl ? `c-${name}` : name)
      .catch((error) => {
        note = safe(`${error.code}: ${error.message}`)
      })
      .then(draw)
  stdin.setRawMode(true).on('keypress', onKey)
  stdout.on('resize', draw)
  stdout.write('\u001B[?1049h\u001B[?25l') // the other screen, without a cursor
  let stop: (() => void) | undefined
  const refresh = () => {
    stop = systemClock.timer(1000, async () => {
      try {
        const next = await look(queue)
        before = now
        now = next
        selected = Math.max(0, Math.min(selected, rowsOf(now).length - 1))
      } catch (error) {
        note = safe(`${(error as GopherQueueError).code}: ${(error as Error).message}`)
      }
      draw()
      refresh()
    })
  }
  try {
    draw()
    refresh()
    await ended
  } finally {
    stop?.()
    stdin.off('keypress', onKey).setRawMode(false).pause()
    stdout.off('resize', draw).write('\u001B[?25h\u001B[?1049l')
  }
}

/** What a key does to a row; answers with what it has made of it. */
async function done(queue: GopherQueue, row: Row, key: string): Promise<string> {
  if (row.kind === 'queue') {
    if (key === 'p') await (row.paused ? queue.resume(row.name) : queue.pause(row.name))
    return ''
  }
  const { id } = row
  if (key === 'r') return `job ${id}: ${(await queue.retry(id)).state}`
  if (key === 'c') return `job ${id}: ${(await queue.cancel(id)).state}`
  if (key === 'x') return queue.remove(id).then(() => `job ${id}: removed`)
  return ''
}

/** One job on a screen of its own. */
async function page(queue: GopherQueue, id: number): Promise<string[]> {
  const [job, why, history] = await Promise.all([queue.job(id), queue.why(id), queue.history(id)])
  const fields = Object.entries(job ?? {}).filter(([, value]) => value !== null)
  const lines = fields.map(
    ([name, value]) => `${name.padEnd(20)} ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  const attempts = history.flatMap(({ attempt, outcome, error }) => [
    `attempt ${attempt}: ${outcome}`,
    ...(error ? (error.stack ?? error.message).split('\n').map((line) => `    ${line}`) : []),
  ])
  const { columns, rows } = process.stdout
  return [why, '(q: back)', '', ...attempts, '', ...lines].slice(0, rows).map((line) => fit(safe(line), columns))
}
