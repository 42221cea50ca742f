import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// A primary that dies and a standby that takes its place, while jobs are submitted and run. CLUSTER_ROUNDS: how often.

const rounds = Number(process.env.CLUSTER_ROUNDS ?? 2)

/** Two servers of which one follows the other, and what was said to those who submitted. */
class Rig implements AsyncDisposable {
  primary = new PostgresServer()
  standby = new PostgresServer({}, this.primary)
  readonly url: string
  readonly told = new Map<string, 'yes' | 'no' | 'unknown'>()
  readonly ran: string[] = []
  /** How long nothing was acknowledged after a promotion, in ms. */
  readonly outages: number[] = []
  readonly #queues: GopherQueue[] = []
  readonly #submitters: Promise<void>[] = []
  #going = true

  constructor() {
    const hosts = [this.primary, this.standby].map(({ folder }) => encodeURIComponent(folder))
    this.url = `postgres://postgres@${hosts.join(',')}/postgres?schema=failover`
  }

  async load(submitters: number): Promise<void> {
    for (let which = 0; which < submitters; which++) {
      const queue = await GopherQueue.open(this.url)
      this.#queues.push(queue)
      const task = queue.define('work', { timeout: '10s', visibilityTimeout: '5s' }, async (job) => {
        this.ran.push(String(job.payload))
      })
      queue.work({ concurrency: 5 })
      this.#submitters.push(this.#submit(which, (name) => task.submit(name)))
    }
  }

  async #submit(which: number, submit: (name: string) => Promise<unknown>): Promise<void> {
    for (let i = 0; this.#going; i++) {
      const names = Array.from({ length: 5 }, (_, n) => `${which} ${i} ${n}`)
      const words = names.map((name) => submit(name).then(() => 'yes' as const, (error) => error.accepted)) // biome-ignore format: one call
      for (const [n, word] of (await Promise.all(words)).entries()) this.told.set(names[n]!, word)
    }
  }

  get acknowledged(): string[] {
    return [...this.told].filter(([, word]) => word === 'yes').map(([name]) => name)
  }

  async more(count: number): Promise<void> {
    for (const until = this.acknowledged.length + count; this.acknowledged.length < until; ) await setTimeout(5)
  }

  /** The primary dies, and the standby takes its place. */
  async fail(): Promise<void> {
    this.primary.kill()
    await this.standby.promote()
    const [promotedAt, dead] = [performance.now(), this.primary]
    this.primary = this.standby
    this.standby = dead
    await this.more(1)
    this.outages.push(performance.now() - promotedAt)
  }

  /** Waits for all that runs, unless history has gone back; answers with acknowledged jobs that are not there, and with jobs that are there twice. */
  async audit(waits = true): Promise<{ lost: string[]; twice: string[] }> {
    this.#going = false
    await Promise.all(this.#submitters)
    while (waits && this.primary.sql(`SELECT COUNT(*) FROM failover.gq_jobs WHERE state <> 'succeeded'`) !== '0')
      await setTimeout(50)
    const stored = this.primary.sql('SELECT payload FROM failover.gq_jobs').split('\n').map((text) => JSON.parse(text) as string) // biome-ignore format: one call
    const there = new Set(stored)
    const refused = [...this.told].filter(([name, word]) => word === 'no' && there.has(name)).map(([name]) => name)
    assert.deepEqual(refused, [], 'what was refused is not stored')
    const ran = new Set(waits ? this.ran : stored)
    assert.deepEqual(stored.filter((name) => !ran.has(name)), [], 'what succeeded ran') // biome-ignore format: one call
    return {
      lost: this.acknowledged.filter((name) => !there.has(name)),
      twice: stored.filter((name, i) => stored.indexOf(name) !== i),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#going = false
    for (const queue of this.#queues) await queue.close({ grace: 0 })
    this.primary[Symbol.dispose]()
    this.standby[Symbol.dispose]()
  }
}

test(`${rounds} failovers to a synchronous standby: what was acknowledged is stored once, and all of it runs`, {
  skip: without,
}, async (t) => {
  await using rig = new Rig()
  await rig.primary.waitsForStandby()
  await rig.load(2)
  for (let i = 0; i < rounds; i++) {
    await rig.more(50 + ((i * 137) % 200))
    await rig.fail()
    await rig.more(20)
    if (i === rounds - 1) break
    rig.standby.follow(rig.primary)
    await rig.primary.waitsForStandby()
  }
  assert.deepEqual(await rig.audit(), { lost: [], twice: [] })
  assert.deepEqual([...rig.primary.notUnderstood, ...rig.standby.notUnderstood], [])
  t.diagnostic(
    `${rig.acknowledged.length} acknowledged; ms without after each promotion: ${rig.outages.map(Math.round)}`,
  )
})

test('a standby that is cut off, and that no commit waits for: jobs are lost, and the same audit says so', {
  skip: without,
}, async () => {
  await using rig = new Rig()
  await rig.load(1)
  await rig.more(20)
  while (rig.standby.sql(`SELECT to_regclass('failover.gq_jobs') IS NOT NULL`) !== 't') await setTimeout(20)
  rig.standby.sql(`ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'`)
  rig.standby.sql('SELECT pg_reload_conf()')
  while (rig.standby.sql('SELECT COUNT(*) FROM pg_stat_wal_receiver') !== '0') await setTimeout(20)
  await rig.more(50)
  await rig.fail()
  assert.ok((await rig.audit(false)).lost.length > 0)
})
