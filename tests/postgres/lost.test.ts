import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { Random } from '../../sim/random.ts'
import { jobSpec } from '../../src/model/job.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { CutSocket } from '../support/cut.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// A connection that is lost, at COMMIT above all: whoever asked is told what is true, and nothing is stored twice.

/** CLUSTER_CUTS: how often a connection is cut or a backend ended; CLUSTER_SEED: when, and which. */
const cuts = Number(process.env.CLUSTER_CUTS ?? 50)
const seed = Number(process.env.CLUSTER_SEED ?? 1)

type Way = 'before' | 'after' | 'any' | 'pg_terminate_backend' | 'pg_cancel_backend'

/** Returns when it has been done. `receiver`: the standby's process that commits wait for. The server's functions are called as a COMMIT arrives, a moment later, or while one waits for the standby. */
async function cutOnce(cut: CutSocket, admin: pg.Client, receiver: number, way: Way, random: Random): Promise<void> {
  const wait = random.below(4)
  const before = cut.cuts
  if (way === 'any') {
    await setTimeout(wait * 3)
    cut.cutAll()
  } else if (way === 'before' || way === 'after') {
    cut.next = way
    while (cut.cuts === before) await setTimeout(1)
  } else {
    if (wait > 0) await new Promise<void>((done) => (cut.next = done))
    if (wait > 1) await setTimeout(wait - 1)
    const who = wait > 0 ? `state <> 'idle'` : `wait_event = 'SyncRep'` // who has committed, and waits for the standby
    if (wait === 0) process.kill(receiver, 'SIGSTOP')
    await admin.query(`DO $$ BEGIN LOOP
      PERFORM pg_stat_clear_snapshot();
      PERFORM ${way}(pid) FROM pg_stat_activity WHERE application_name = 'gopherqueue' AND ${who};
      EXIT WHEN FOUND;
    END LOOP; END $$`)
    if (wait > 0) return
    await setTimeout(20) // or the standby has answered before the backend hears of it
    process.kill(receiver, 'SIGCONT')
  }
}

if (without) test('lost connections to PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  /** Submits; answers whether it was acknowledged, and else what was said of it. */
  async function submit(store: PostgresStore, name: string): Promise<'yes' | 'no' | 'unknown'> {
    const submission = { specs: jobSpec('work', {}), payloads: [JSON.stringify(name)], keys: null }
    return store.call('submit', submission).then(
      () => 'yes',
      (error) => error.accepted,
    )
  }

  const stored = (schema: string) => server.sql(`SELECT payload FROM ${schema}.gq_jobs ORDER BY id`).split('\n')

  async function rig(schema: string) {
    const cut = await CutSocket.open(server.folder)
    const url = server.url(schema).replace(encodeURIComponent(server.folder), encodeURIComponent(cut.folder))
    const store = await PostgresStore.open(`${url}&prepare=false`) // so that each COMMIT is there to be read
    const close = async () => {
      await store.close()
      await cut[Symbol.asyncDispose]()
    }
    return { cut, store, [Symbol.asyncDispose]: close }
  }

  test('whether a COMMIT was lost or its answer, each submission is acknowledged, and stored once: 40 times', async () => {
    await using at = await rig('commit')
    const names = Array.from({ length: 40 }, (_, i) => `${['before', 'after', null][i % 3]} ${i}`)
    for (const [i, name] of names.entries()) {
      at.cut.next = (['before', 'after', null] as const)[i % 3]!
      assert.equal(await submit(at.store, name), 'yes', name)
    }
    assert.equal(at.cut.cuts, 27)
    assert.deepEqual(stored('commit'), names.map((name) => JSON.stringify(name))) // biome-ignore format: one call
  })

  /** Submits over three connections that are cut again and again, to a server with a standby; answers what was said, after an audit of it. */
  async function cutAgainAndAgain(schema: string, ways: Way[]): Promise<Map<string, string>> {
    using standby = new PostgresServer({}, server)
    await server.waitsForStandby()
    const receiver = Number(standby.sql('SELECT pid FROM pg_stat_wal_receiver'))
    const told = new Map<string, string>()
    {
      await using open = new AsyncDisposableStack()
      const rigs = await Promise.all([0, 1, 2].map(async () => open.use(await rig(schema))))
      const admin = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
      await admin.connect()
      open.defer(() => admin.end())
      let going = true
      const submitters = rigs.map(async ({ store }, which) => {
        for (let i = 0; going; i++) {
          const names = Array.from({ length: 3 }, (_, n) => `${which} ${i} ${n}`)
          const words = await Promise.all(names.map((name) => submit(store, name)))
          for (const [n, name] of names.entries()) told.set(name, words[n]!)
          if (words.includes('no')) await setTimeout(10) // it looks again every 250 ms whether the server is well
        }
      })
      const random = new Random(seed)
      for (let i = 0; i < cuts / 2; i++) {
        const { cut } = random.pick(rigs)
        await cutOnce(cut, admin, receiver, ways[i % ways.length]!, random)
        for (const before = told.size; told.size === before; ) await setTimeout(1)
      }
      going = false
      await Promise.all(submitters)
    }
    server.sql('ALTER SYSTEM RESET synchronous_standby_names')
    server.sql('SELECT pg_reload_conf()')
    const there = stored(schema).map((text) => JSON.parse(text) as string)
    const whose = (word: string) => there.filter((name) => told.get(name) === word)
    const acknowledged = [...told].filter(([, word]) => word === 'yes').map(([name]) => name)
    assert.deepEqual(whose('yes').sort(), acknowledged.sort(), 'what was acknowledged is there once')
    assert.deepEqual(whose('no'), [], 'what was refused is not there')
    assert.equal(new Set(there).size, there.length, 'nothing is there twice')
    assert.deepEqual(there.filter((name) => !told.has(name)), [], 'nothing else is there') // biome-ignore format: one call
    return told
  }

  /** How many were told what, and how many COMMITs had their wait for the standby ended. */
  function count(told: Map<string, string>): string {
    const words = ['yes', 'no', 'unknown'].map((word) => `${word} ${[...told.values()].filter((one) => one === word).length}`) // biome-ignore format: one line
    const log = readFileSync(join(server.folder, 'log'), 'utf8')
    return `${words.join(', ')}; waits ended so far: ${log.match(/wait for synchronous replication/g)?.length ?? 0}`
  }

  test(`connections cut and backends ended, at COMMIT and at any moment, ${cuts / 2} times: all is acknowledged, and there once`, async (t) => {
    const told = await cutAgainAndAgain('ends', ['before', 'after', 'any', 'pg_terminate_backend'])
    t.diagnostic(count(told))
    assert.deepEqual([...new Set(told.values())], ['yes'])
  })

  test(`backends cancelled and ended, at COMMIT and at any moment, ${cuts / 2} times: what is said of each submission is true`, async (t) => {
    t.diagnostic(count(await cutAgainAndAgain('cancels', ['pg_cancel_backend', 'pg_cancel_backend', 'after', 'pg_terminate_backend']))) // biome-ignore format: one line
  })

  test('a server that crashes and comes back: who submitted meanwhile waits for it', async () => {
    await using store = await PostgresStore.open(server.url('crash'))
    assert.equal(await submit(store, 'before'), 'yes')
    server.stop()
    const meanwhile = submit(store, 'meanwhile')
    server.start()
    assert.equal(await meanwhile, 'yes')
    assert.deepEqual(stored('crash'), ['"before"', '"meanwhile"'])
  })

  test('a process that stands still inside its transaction does not keep others from writing', async () => {
    await using at = await rig('still')
    await using other = await PostgresStore.open(server.url('still'))
    at.cut.next = 'hold'
    const held = submit(at.store, 'held')
    while (at.cut.cuts === 0) await setTimeout(5)
    assert.equal(await submit(other, 'other'), 'yes') // once the server has ended the transaction, which has the lock
    assert.equal(await held, 'yes')
    assert.deepEqual(stored('still'), ['"other"', '"held"'])
  })

  test('a COMMIT whose wait for the standby is cancelled is not acknowledged before the standby has it', async () => {
    await using store = await PostgresStore.open(server.url('standby'))
    const configure = (names: string) => {
      server.sql(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`)
      server.sql('SELECT pg_reload_conf()')
    }
    const waits = `FROM pg_stat_activity WHERE wait_event = 'SyncRep'`
    const waiter = async (not = '') => {
      for (;;) {
        const pid = server.sql(`SELECT pid ${waits}`)
        if (pid !== '' && pid !== not) return pid
        await setTimeout(5)
      }
    }
    configure('nobody')
    let told = 'nothing'
    const submitted = submit(store, 'job').then((word) => (told = word))
    const first = await waiter()
    server.sql(`SELECT pg_cancel_backend(${first})`)
    await waiter(first) // it is here, and asks whether it is there
    assert.equal(told, 'nothing')
    configure('')
    assert.equal(await submitted, 'yes')
    assert.deepEqual(stored('standby'), ['"job"'])
  })
}
