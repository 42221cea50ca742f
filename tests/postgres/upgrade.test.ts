import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { GopherQueue } from '../../src/index.ts'
import { newestSchema } from '../../src/store/postgres/schema.ts'
import { temporaryFolder } from '../support/folder.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// Processes of two versions on one queue under load. What is newer is a copy of the source with more steps of the schema.
// CLUSTER_UPGRADES: how many upgrades, one after the other.

const rounds = Number(process.env.CLUSTER_UPGRADES ?? 1)
const root = join(import.meta.dirname, '../..')
const folder = temporaryFolder()
after(() => folder[Symbol.dispose]())

let releases = 0

/** A step of the schema: its SQL, and the oldest version whose code works beside it. */
type Step = [sql: string, oldest: number]
const adds = (version: number): Step => [
  `ALTER TABLE gq_jobs ADD COLUMN new_${version} text; CREATE TABLE gq_new_${version} (id bigint); CREATE INDEX ON gq_jobs (new_${version}) WHERE new_${version} IS NOT NULL`,
  version - 1,
]
/** It writes down which number was the last before it. */
const breaks = (version: number): Step => [
  `ALTER TABLE gq_jobs ADD COLUMN new_${version} text; INSERT INTO gq_meta SELECT 'before', seq FROM gq_marks ORDER BY n DESC LIMIT 1`,
  version,
]

/** The source with these steps more; answers with its folder. */
function release(...steps: Step[]): string {
  const copy = folder.file(`release-${++releases}`)
  for (const path of ['src', 'package.json', 'tests/postgres/upgrade.child.ts'])
    cpSync(join(root, path), join(copy, path), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  const file = join(copy, 'src/store/postgres/schema.ts')
  const text = readFileSync(file, 'utf8')
  const more = text.replace(/(const migrations.*?)\n\]/s, `$1\n${steps.map((step) => JSON.stringify(step)).join(',')}]`)
  assert.notEqual(more, text)
  writeFileSync(file, more)
  return copy
}

/** A process that submits and works. */
class Running {
  readonly #process: ChildProcess
  text = ''

  constructor(source: string, url: string, name: string) {
    const child = join(source, 'tests/postgres/upgrade.child.ts')
    this.#process = spawn(process.execPath, [child, url, name], { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const output of [this.#process.stdout!, this.#process.stderr!])
      output.on('data', (text) => (this.text += text))
    after(() => this.#process.kill('SIGKILL'))
  }

  /** What it said that begins with a word. */
  said(word: string): string[] {
    return this.text.split('\n').flatMap((line) => (line.startsWith(`${word} `) ? [line.slice(word.length + 1)] : []))
  }

  get hasEnded(): boolean {
    return this.#process.exitCode !== null
  }

  async until(met: () => boolean): Promise<void> {
    while (!met() && !this.hasEnded) await setTimeout(5)
    assert.ok(met(), this.text)
  }

  /** Until so many more of its submissions were acknowledged, and jobs run. */
  async works(more = 40): Promise<void> {
    const [jobs, runs] = [this.said('+').length + more, this.said('ran').length + more]
    await this.until(() => this.said('+').length >= jobs && this.said('ran').length >= runs)
  }

  async end(): Promise<void> {
    this.#process.kill('SIGTERM')
    if (!this.hasEnded) await once(this.#process, 'exit')
  }
}

if (without) test('an upgrade on PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  after(() => server[Symbol.dispose]())

  /** Each acknowledged job is there once, has succeeded, and ran once. */
  function audit(schema: string, all: Running[]): void {
    const acknowledged = all.flatMap((one) => one.said('+')).sort()
    const stored = server.sql(`SELECT payload::json #>> '{}', state FROM ${schema}.gq_jobs`).split('\n').sort()
    assert.deepEqual(stored, acknowledged.map((name) => `${name}|succeeded`)) // biome-ignore format: one call
    assert.deepEqual(all.flatMap((one) => one.said('ran')).sort(), acknowledged)
  }

  test(`processes upgraded one after the other, over a step that only adds (times ${rounds}): no error, no job lost, none run twice`, async (t) => {
    const url = server.url('rolling')
    const steps: Step[] = []
    const all: Running[] = []
    let number = 0
    const start = (source: string) => {
      const one = new Running(source, url, `${++number}`)
      all.push(one)
      return one
    }
    let source = root
    let servers = [start(source), start(source)]
    for (const one of servers) await one.works()
    for (let round = 0; round < rounds; round++) {
      steps.push(adds(newestSchema + steps.length + 1))
      const newer = release(...steps)
      const upgraded: Running[] = []
      for (const old of servers) {
        const one = start(newer)
        await one.works()
        const again = start(source) // one of the old version that begins only now
        for (const beside of [old, again]) await beside.works()
        await again.end()
        await old.end()
        upgraded.push(one)
      }
      for (const one of upgraded) await one.works()
      ;[servers, source] = [upgraded, newer]
    }
    for (const one of servers) await one.end()
    for (const one of all) assert.deepEqual([...one.said('-'), ...one.said('!')], [], one.text)
    audit('rolling', all)
    assert.equal(
      server.sql(`SELECT value FROM rolling.gq_meta WHERE key = 'schema'`),
      String(newestSchema + steps.length),
    )
    assert.deepEqual(server.notUnderstood, [])
    t.diagnostic(`${all.flatMap((one) => one.said('+')).length} jobs of ${all.length} processes`)
  })

  test('a step that older code does not know how to work beside: the older process writes nothing more, and says so', async () => {
    const url = server.url('breaking')
    const old = new Running(root, url, 'old')
    await old.works()
    const newer = new Running(release(breaks(newestSchema + 1)), url, 'new')
    await old.until(() => old.said('-').length > 0)
    await newer.works()
    for (const refused of old.said('-'))
      assert.match(refused, /SCHEMA_TOO_NEW no The queue in the schema breaking has version/)
    const before = server.sql(`SELECT value FROM breaking.gq_meta WHERE key = 'before'`)
    assert.equal(
      server.sql(`SELECT COUNT(*) FROM breaking.gq_jobs WHERE id > ${before} AND payload LIKE '"old/%'`),
      '0',
    )
    const late = new Running(root, url, 'late')
    await late.until(() => late.text.includes('SCHEMA_TOO_NEW'))
    await old.end()
    while (
      server.sql(`SELECT COUNT(*) FROM breaking.gq_jobs WHERE state <> 'succeeded' AND payload LIKE '"old/%'`) !== '0'
    )
      await setTimeout(20)
    await newer.end()
    assert.deepEqual([...newer.said('-'), ...newer.said('!')], [])
    const stored = server.sql('SELECT payload FROM breaking.gq_jobs').split('\n').map((text) => JSON.parse(text)) // biome-ignore format: one call
    assert.deepEqual(stored.sort(), [old, newer].flatMap((one) => one.said('+')).sort())
  })

  test('an app whose transaction stays open: the newer process does not begin, and the older ones go on', async () => {
    const url = server.url('open')
    await using old = await GopherQueue.open(url)
    const app = new pg.Client({ host: server.folder, user: 'postgres', database: 'postgres' })
    await app.connect()
    await app.query('BEGIN')
    await old.submitWith(app, 'work', 'inside')
    const source = release(adds(newestSchema + 1))
    const newer = new Running(source, url, 'early')
    while (!newer.hasEnded) await old.submit('work', 'beside')
    assert.match(newer.text, /open on the queue's tables .* to version \d+ .*Nothing was changed/)
    assert.match(newer.text, /code: 'STORAGE_UNAVAILABLE',\n *accepted: 'no'/)
    await app.query('COMMIT')
    await app.end()
    const again = new Running(source, url, 'again')
    await again.works()
    await again.end()
    assert.deepEqual([...again.said('-'), ...again.said('!')], [])
  })
}
