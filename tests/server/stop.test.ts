import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { request } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'
import { Child, folderFor, lookInto, start, until } from '../crash/processes.ts'
import { main } from '../support/bundled.ts'

// The end of `gopherqueue serve`, as service managers bring it about.

async function served(
  t: TestContext,
  file: string,
  port = '0',
  node: string[] = [],
): Promise<{ server: Child; url: string }> {
  const server = new Child(process.execPath, [
    ...node,
    main,
    '--db',
    file,
    'serve',
    '--port',
    port,
    '--log-level',
    'warn',
  ])
  t.after(() => server.kill())
  const url = await until('it serves', 20, () => / at (http:\S+)/.exec(server.complaints)?.[1])
  return { server, url }
}

test('SIGTERM under load: what was acknowledged is in the file, nobody hangs, and it ends well', async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const { server, url } = await served(t, file)
  const queue = await GopherQueue.open(url)
  queue.on('warning', () => undefined)
  const done: number[] = []
  queue.define('work', {}, () => 'done')
  queue.on('succeeded', ({ id }) => done.push(id))
  for (let i = 0; i < 3; i++) queue.work({ concurrency: 5 })
  const idle = fetch(`${url}/v1/leases`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ worker: 'idle', types: ['nothing'], waitMs: 60_000 }),
  }).then((response) => response.json())
  const submitters = [1, 2].map(() => start(t, '../server/submit.child.ts', { url, many: 25 }))
  await until('a thousand are acknowledged', 60, () =>
    submitters.every(({ output }) => output.split('\n').length > 500),
  )
  await until('some were worked', 20, () => done.length > 50)

  const begun = performance.now()
  process.kill(server.pid, 'SIGTERM')
  assert.equal(await server.ended, 0, server.complaints)
  const took = performance.now() - begun
  assert.ok(took < 30_000, `it took ${Math.round(took)} ms to end`)
  assert.deepEqual(await idle, { jobs: [], replaced: false }, 'a long poll is answered')
  for (const { ended } of submitters) assert.equal(await ended, 0)
  const told = submitters.map(({ output }) => output.trimEnd().split('\n'))
  for (const lines of told) {
    const { refused, longest } = JSON.parse(lines.pop()!) as { refused: Record<string, number>; longest: number }
    assert.ok(longest < 30_000, `a request took ${longest} ms`)
    for (const how of Object.keys(refused))
      assert.match(how, /^(STORAGE_UNAVAILABLE no|ECONNREFUSED|UND_ERR_SOCKET|ECONNRESET)$/)
  }
  const acknowledged = told.flat().map(Number)
  const db = lookInto(file)
  const ids = new Set(
    db
      .prepare('SELECT id FROM gq_jobs')
      .all()
      .map(({ id }) => Number(id)),
  )
  assert.deepEqual(acknowledged.filter((id) => !ids.has(id)), [], 'acknowledged and lost') // biome-ignore format: short
  const succeeded = db.prepare(`SELECT state FROM gq_jobs WHERE id = ?`)
  for (const id of done) assert.equal(succeeded.get(id)!.state, 'succeeded')
  assert.equal(db.prepare('PRAGMA integrity_check').get()!.integrity_check, 'ok')
  assert.equal(ids.size, new Set(acknowledged).size, 'each that is stored was acknowledged: none was cut off')
  db.close()
  t.diagnostic(`${acknowledged.length} acknowledged, ${done.length} worked, ended in ${Math.round(took)} ms`)

  const next = await served(t, file, new URL(url).port) // it hears what the workers came to meanwhile
  await queue.close()
  process.kill(next.server.pid, 'SIGTERM')
  assert.equal(await next.server.ended, 0, next.server.complaints)
})

test('a second SIGTERM ends it at once, also while the file is held by another process', async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const { server, url } = await served(t, file)
  using other = lookInto(file)
  other.exec('BEGIN IMMEDIATE')
  const hanging = request(`${url}/v1/jobs`, { method: 'POST', headers: { 'content-type': 'application/json' } })
  const cut = once(hanging, 'error')
  hanging.end('{"type":"work"}')
  await once(hanging, 'finish')
  await fetch(`${url}/healthz`) // what was sent before is there
  process.kill(server.pid, 'SIGTERM')
  while (await fetch(`${url}/healthz`).then((response) => response.ok, () => false)); // biome-ignore format: short
  assert.ok(server.alive, 'it waits for what was begun')
  await pause(1000) // what comes within a second of the first counts as the same signal
  process.kill(server.pid, 'SIGTERM')
  assert.equal(await server.ended, 1)
  assert.match(server.complaints, /Asked twice to stop.*acknowledged is on disk/)
  await cut // its client is not left waiting
})

test('what would hold the process for ever does not hold up its end', async (t) => {
  const holding = ['--import', 'data:text/javascript,setInterval(() => {}, 1e6)']
  const file = join(folderFor(t), 'jobs.db')
  const { server } = await served(t, file, '0', holding)
  process.kill(server.pid, 'SIGTERM')
  assert.equal(await server.ended, 0, server.complaints)
})

test('a second SIGTERM within a second of the first is the same one: what was begun is finished', async (t) => {
  const file = join(folderFor(t), 'jobs.db')
  const { server, url } = await served(t, file)
  using other = lookInto(file)
  other.exec('BEGIN IMMEDIATE')
  const begun = request(`${url}/v1/jobs`, { method: 'POST', headers: { 'content-type': 'application/json' } })
  const answered = once(begun, 'response')
  begun.end('{"type":"work"}')
  await once(begun, 'finish')
  await fetch(`${url}/healthz`)
  process.kill(server.pid, 'SIGTERM')
  process.kill(server.pid, 'SIGTERM')
  while (await fetch(`${url}/healthz`).then((response) => response.ok, () => false)); // biome-ignore format: short
  other.exec('COMMIT')
  const [{ statusCode }] = await answered
  assert.deepEqual([statusCode, await server.ended], [201, 0], server.complaints)
  assert.doesNotMatch(server.complaints, /Asked twice/)
})

test('on a port that is taken it ends by itself with 1 and says which, also when SIGTERM comes meanwhile', async (t) => {
  const folder = folderFor(t)
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.after(() => taken.close())
  const { port } = taken.address() as AddressInfo
  const begin = (name: string) => {
    const server = new Child(process.execPath, [main, '--db', join(folder, name), 'serve', '--port', `${port}`])
    t.after(() => server.kill())
    return server
  }
  const [alone, asked] = [begin('alone.db'), begin('asked.db')]
  await until('the file is made', 60, () => existsSync(join(folder, 'asked.db')) || !asked.alive)
  if (asked.alive) process.kill(asked.pid, 'SIGTERM')
  for (const server of [alone, asked]) {
    assert.equal(await server.ended, 1, server.complaints)
    const said = new RegExp(
      `^gopherqueue: EADDRINUSE: Port ${port} of 127\\.0\\.0\\.1 is taken by another program`,
      'm',
    )
    assert.match(server.complaints, said)
  }
})
