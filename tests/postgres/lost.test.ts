import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { jobSpec } from '../../src/model/job.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { CutSocket } from '../support/cut.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// A connection that is lost, at COMMIT above all: whoever asked is told what is true, and nothing is stored twice.

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

  test('connections that end at any moment: what was acknowledged is stored once, what was refused is not', async () => {
    const stores = await Promise.all([1, 2].map(() => PostgresStore.open(server.url('ends'))))
    const told = new Map<string, string>()
    let going = true
    const submitters = stores.map(async (store, which) => {
      for (let i = 0; going; i++) {
        const names = Array.from({ length: 5 }, (_, n) => `${which} ${i} ${n}`)
        const words = await Promise.all(names.map((name) => submit(store, name)))
        for (const [n, name] of names.entries()) told.set(name, words[n]!)
      }
    })
    for (let i = 0; i < 25; i++) {
      server.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gopherqueue'`)
      await setTimeout(i * 4)
    }
    going = false
    await Promise.all(submitters)
    for (const store of stores) await store.close()
    const acknowledged = [...told].filter(([, word]) => word === 'yes').map(([name]) => JSON.stringify(name))
    assert.deepEqual([...new Set(told.values())], ['yes'])
    assert.deepEqual(stored('ends').sort(), acknowledged.sort())
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
