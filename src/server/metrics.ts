import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Clock } from '../model/clock.ts'
import { causesOf } from '../queue/health.ts'
import type { Stats, Store, Histogram as Tally } from '../store/store.ts'
import type { Hub, Told } from './hub.ts'
import { Queues, queuesText } from './labels.ts'
import { serverText } from './postgres.ts'
import { Types } from './types.ts'
import type { Readiness, Watchdog } from './watchdog.ts'

/** How long a scrape waits for the file; then it goes without what only the file knows. */
const patience = 2000
/** Most names of queues and types that get series of their own: clients choose them. What is left is told under `other`. */
const mostNames = 500
/** Most queues that do. */
const mostQueues = 1000
const here = 'Counted since this server started, of what went over it: embedded workers on the same file are not in it.'

/** What Prometheus is told. Between scrapes it costs a few counters; what the file holds is asked for at each. */
export class Metrics {
  readonly #store: Store
  readonly #clock: Clock
  readonly #watchdog: Watchdog
  readonly #registry = new Registry()
  readonly #names = new Set<string>()
  readonly #queues = new Queues(mostQueues)
  readonly #reclaimed = this.#counter('reclaimed_jobs_total', 'Running jobs that lost their worker or its word, found by this server.') // biome-ignore format: long
  readonly #expired = this.#counter('expired_jobs_total', 'Jobs whose deadline passed while they waited, found by this server.') // biome-ignore format: long
  readonly #refused = this.#counter('refused_requests_total', 'Requests answered with a problem, by its code.', 'code')
  readonly #waited = this.#histogram(
    'job_wait_seconds',
    `From ready to start, of each attempt. ${here}`,
    ['queue'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600],
  )
  readonly #ran = this.#histogram(
    'attempt_duration_seconds',
    `From lease to outcome. ${here}`,
    ['queue', 'type'],
    [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600],
  )
  readonly #types: Types
  readonly #lostTicks = this.#counter('lost_ticks_total', 'Ticks of schedules that made no job, found by this server.', 'schedule') // biome-ignore format: long
  readonly #late = this.#gauge('schedule_late_seconds', 'Since a tick that nobody has taken was due; 0 if there is none.', 'schedule') // biome-ignore format: long
  readonly #refusedTick = this.#gauge('schedule_refused', '1 while its latest tick has no job, as the submission was refused.', 'schedule') // biome-ignore format: long
  readonly #queueSlots = this.#gauge('queue_slots', 'Jobs that the live workers which take its jobs may hold.', 'queue')
  readonly #queueBusy = this.#gauge('queue_slots_busy', 'Jobs of any queue that these workers hold.', 'queue')
  readonly #diskFree = this.#gauge('disk_free_bytes', 'Free on the disk of the file, besides what is set aside.')
  readonly #backup = this.#gauge(
    'last_backup_timestamp_seconds',
    "When 'gopherqueue backup' last made one; none if never.",
  )
  readonly #certificate = this.#gauge(
    'tls_certificate_expiry_timestamp_seconds',
    'When the certificate in use expires; none without TLS.',
  )
  readonly #oldest = this.#gauge('oldest_ready_age_seconds', 'For how long the oldest ready job of a queue that is not paused is ready; 0 if none is.') // biome-ignore format: long
  readonly #unhandled = this.#gauge('unhandled_types', 'Types with ready jobs that no live worker handles.')
  readonly #workers = this.#gauge('workers', 'Live workers of any process.')
  readonly #slots = this.#gauge('worker_slots', 'Jobs that all live workers may hold at once.')
  readonly #busy = this.#gauge('worker_slots_busy', 'Jobs that all live workers hold.')
  readonly #file = this.#gauge('file_bytes', 'The database file.')
  readonly #free = this.#gauge('file_free_bytes', 'Inside the file, free to be used again.')
  readonly #wal = this.#gauge('wal_bytes', 'The WAL beside the file.')
  readonly #works = this.#gauge('works', '1 if it does, as /readyz says: submit, lease, complete.', 'operation')
  readonly #degraded = this.#gauge('degraded', '1 for each cause that is there now.', 'cause')
  readonly #started = new Gauge({ name: 'process_start_time_seconds', help: 'Unix time at which the process started.', registers: [this.#registry] }) // biome-ignore format: long
  readonly #memory = new Gauge({ name: 'process_resident_memory_bytes', help: 'Resident memory.', registers: [this.#registry] }) // biome-ignore format: long
  readonly #cpu = new Counter({ name: 'process_cpu_seconds_total', help: 'CPU time used.', registers: [this.#registry] }) // biome-ignore format: long
  #cpuBefore = 0

  constructor(store: Store, clock: Clock, hub: Hub, watchdog: Watchdog, version: string) {
    this.#store = store
    this.#clock = clock
    this.#watchdog = watchdog
    this.#gauge('build_info', 'Always 1.', 'version').set({ version }, 1)
    this.#started.set(clock.now() / 1000 - process.uptime())
    hub.listen(null, (told) => this.#hear(told))
    this.#types = new Types(store, clock, mostNames)
    this.#begun = this.#within((signal) => this.#types.read(signal)) // then the first scrape begins
  }

  /** The certificate in use ends then (Unix ms); null without TLS. */
  certificate(endsAt: number | null): void {
    if (endsAt === null) this.#certificate.remove()
    else this.#certificate.set(endsAt / 1000)
  }

  refused(code: string): void {
    this.#refused.inc({ code })
  }

  readonly #begun: Promise<unknown>
  #asked: Promise<string> | undefined

  /** The text format of Prometheus. Who asks before the last answer was there gets that one. */
  text(): Promise<string> {
    this.#asked ??= this.#text().finally(() => {
      this.#asked = undefined
    })
    return this.#asked
  }

  async #text(): Promise<string> {
    await this.#begun
    const [stats, schedules, server] = await Promise.all([
      this.#within((signal) => this.#store.call('stats', null, signal)),
      this.#within((signal) => this.#store.call('schedules', { payloads: false, limit: mostNames }, signal)),
      this.#store.server?.(),
      this.#within((signal) => this.#types.read(signal)),
    ])
    for (const known of [this.#degraded, this.#late, this.#refusedTick, this.#queueSlots, this.#queueBusy])
      known.reset()
    for (const gauge of [this.#oldest, this.#unhandled, this.#workers, this.#slots, this.#busy, this.#file, this.#free, this.#wal, this.#diskFree, this.#backup]) gauge.remove() // biome-ignore format: long
    if (stats) this.#take(stats)
    for (const { name, paused, nextAt, problem } of schedules?.schedules ?? []) {
      this.#late.set({ schedule: name }, paused || nextAt === null ? 0 : Math.max(0, this.#clock.now() - nextAt) / 1000)
      this.#refusedTick.set({ schedule: name }, Number(problem !== null))
      this.#lostTicks.inc({ schedule: this.#name(name) }, 0)
    }
    const { readiness, vitals } = this.#watchdog
    for (const operation of Object.keys(readiness) as (keyof Readiness)[])
      this.#works.set({ operation }, Number(readiness[operation].works))
    for (const { code } of [...this.#store.health.causes, ...causesOf(server ?? null)])
      this.#degraded.set({ cause: code }, 1)
    this.#memory.set(process.memoryUsage.rss())
    const { user, system } = process.cpuUsage()
    this.#cpu.inc((user + system) / 1e6 - this.#cpuBefore)
    this.#cpuBefore = (user + system) / 1e6
    const texts = [await this.#registry.metrics(), this.#types.text()]
    if (stats) texts.push(queuesText(this.#queues.told(stats.queues, stats.others)))
    if (server) texts.push(serverText(server))
    if (!vitals) return texts.join('\n')
    return [
      ...texts,
      tallyText('commit_duration_seconds', 'COMMIT of this process: its fsync above all, now and then a checkpoint.', vitals.commits, 1000), // biome-ignore format: long
      tallyText('commit_operations', 'Operations that shared one COMMIT and its fsync.', vitals.groups, 1),
    ].join('\n')
  }

  #hear({ event, ...fields }: Told): void {
    if (event === 'tickLost') this.#lostTicks.inc({ schedule: this.#name(fields.schedule as string) })
    const { queue, type, waitMs, runMs } = fields as Partial<Record<string, number>> & { queue?: string; type?: string } // biome-ignore format: long
    const of = { queue: this.#name(queue), type: this.#name(type) }
    if (event === 'expired') this.#expired.inc()
    else if (event === 'started') this.#watchdog.claimed()
    else if (event === 'reclaimed') this.#reclaimed.inc()
    if (typeof waitMs === 'number') this.#waited.observe({ queue: of.queue }, waitMs / 1000)
    if (typeof runMs === 'number') this.#ran.observe(of, runMs / 1000)
  }

  /** A client cannot make this process grow by inventing names. */
  #name(name = ''): string {
    if (!this.#names.has(name) && this.#names.size >= mostNames) return 'other'
    this.#names.add(name)
    return name
  }

  #take({ queues, workers, unhandled, oldestReadyMs, file }: Stats): void {
    const alive = workers.filter((worker) => worker.alive)
    this.#oldest.set((oldestReadyMs ?? 0) / 1000)
    this.#unhandled.set(unhandled.length)
    if (unhandled.length > 0) this.#degraded.set({ cause: 'NO_WORKER' }, 1)
    this.#workers.set(alive.length)
    this.#slots.set(alive.reduce((sum, { slots }) => sum + slots, 0))
    this.#busy.set(alive.reduce((sum, { running }) => sum + running, 0))
    for (const { queue } of queues.slice(0, mostNames)) this.#takeSlots(queue, alive)
    if (!file) return
    this.#diskFree.set(file.diskFreeBytes)
    if (file.backupAt !== null) this.#backup.set(file.backupAt / 1000)
    this.#file.set(file.bytes)
    this.#free.set(file.freeBytes)
    this.#wal.set(file.walBytes)
  }

  /** The pool of a queue: one that is full while others have room does not show in the sums. */
  #takeSlots(queue: string, alive: Stats['workers']): void {
    const pool = alive.filter(({ sources }) => sources.some((source) => source.queue === queue))
    this.#queueSlots.set({ queue }, pool.reduce((sum, { slots }) => sum + slots, 0)) // biome-ignore format: one line
    this.#queueBusy.set({ queue }, pool.reduce((sum, { running }) => sum + running, 0)) // biome-ignore format: one line
  }

  /** Null when the file does not answer. */
  async #within<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
    const enough = new AbortController()
    const stop = this.#clock.timer(patience, () => enough.abort())
    return ask(enough.signal).catch(() => null).finally(stop) // biome-ignore format: short
  }

  #gauge<L extends string>(name: string, help: string, ...labelNames: L[]): Gauge<L> {
    return new Gauge({ name: `gopherqueue_${name}`, help, labelNames, registers: [this.#registry] })
  }

  #counter<L extends string>(name: string, help: string, ...labelNames: L[]): Counter<L> {
    return new Counter({ name: `gopherqueue_${name}`, help, labelNames, registers: [this.#registry] })
  }

  #histogram<L extends string>(name: string, help: string, labelNames: L[], buckets: number[]): Histogram<L> {
    return new Histogram({ name: `gopherqueue_${name}`, help, labelNames, buckets, registers: [this.#registry] })
  }
}

/** A histogram that was counted elsewhere. */
function tallyText(name: string, help: string, { bounds, counts, sum }: Tally, scale: number): string {
  const full = `gopherqueue_${name}`
  let total = 0
  const buckets = [...bounds, Number.POSITIVE_INFINITY].map((bound, i) => {
    total += counts[i]!
    return `${full}_bucket{le="${bound === Number.POSITIVE_INFINITY ? '+Inf' : bound / scale}"} ${total}`
  })
  const head = [`# HELP ${full} ${help}`, `# TYPE ${full} histogram`]
  return [...head, ...buckets, `${full}_sum ${sum / scale}`, `${full}_count ${total}`, ''].join('\n')
}
