// npm run bench:attacks [-- NAME...]: what single clients try against a server. Each attack gets a real server of its own; told
// are the longest wait for /healthz and for a submission of somebody else meanwhile, and the memory above rest.
// npm run bench:attacks -- beside MINUTES [NAME...]: all of them in turn, for so long, against one server beside a client that submits,
// leases, reports and reads; told are its answers of 5xx (none are allowed) and its longest wait (a second is).
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request as send } from 'node:http'
import { connect } from 'node:net'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { GopherQueue } from '../src/index.ts'

const mebibyte = 1024 * 1024
const large = 'x'.repeat(mebibyte - 100)

/** In a process of its own, so that the attacker's work is not taken for the server's: asks one after the other, tells the longest wait. */
async function sample(url: string, method: string, path: string, body?: string): Promise<void> {
  const agent = new Agent({ keepAlive: true })
  let [longest, asked, failed] = [0, 0, 0]
  process.on('message', () => {
    process.send!({ longest, asked, failed })
    process.exit()
  })
  for (;;) {
    const begun = performance.now()
    const status = await new Promise<number>((resolve) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json' }
      const sent = send(url + path, { agent, method, headers }, (response) => {
        response.resume().once('end', () => resolve(response.statusCode!))
      })
      sent.once('error', () => resolve(0))
      sent.end(body)
    })
    longest = Math.max(longest, performance.now() - begun)
    asked++
    if (status === 0 || status >= 400) failed++
    await setTimeout(5)
  }
}

/** What the normal client has met since it was last asked. */
interface Met {
  calls: number
  /** Answers of 5xx, and connections that broke. */
  failed: number
  /** Other answers that were no success. */
  refused: number
  longest: number
  /** The call that waited longest, and those that failed. */
  notes: string[]
}
const nothingMet = (): Met => ({ calls: 0, failed: 0, refused: 0, longest: 0, notes: [] })

/** In a process of its own: one job after the other, from its submission to its result, and the reads of an operator between. */
async function client(url: string): Promise<void> {
  const agent = new Agent({ keepAlive: true })
  let met = nothingMet()
  let slowest = ''
  process.on('message', () => {
    process.send!({ ...met, notes: [`${slowest}`, ...met.notes.slice(0, 5)] })
    met = nothingMet()
    slowest = ''
  })
  const call = async (method: string, path: string, body?: object): Promise<Record<string, unknown>> => {
    const begun = performance.now()
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json' }
      const sent = send(url + path, { agent, method, headers }, (response) => {
        let said = ''
        response.setEncoding('utf8').on('data', (piece) => {
          said += piece
        })
        response.once('end', () => resolve({ status: response.statusCode!, text: said }))
        response.once('error', ({ message }) => resolve({ status: 0, text: message }))
      })
      sent.once('error', ({ message }) => resolve({ status: 0, text: message }))
      sent.end(body && JSON.stringify(body))
    })
    const took = performance.now() - begun
    met.calls++
    if (took > met.longest) [met.longest, slowest] = [took, `${method} ${path}`]
    if (status === 0 || status >= 500) met.failed++
    else if (status >= 400) met.refused++
    if (status === 0 || status >= 400) met.notes.push(`${method} ${path}: ${status} ${text.slice(0, 200)}`)
    return status >= 200 && status < 300 ? JSON.parse(text) : {}
  }
  for (;;) {
    const { id } = await call('POST', '/v1/jobs', { type: 'normal', queue: 'normal', payload: { to: 'ada' } })
    const lease = { worker: 'normal', types: ['normal'], queue: 'normal', slots: 1, waitMs: 0 }
    const { jobs = [] } = (await call('POST', '/v1/leases', lease)) as { jobs?: { id: number; token: string }[] }
    for (const job of jobs) await call('POST', `/v1/jobs/${job.id}/succeed`, { token: job.token, result: 'done' })
    if (id !== undefined) await call('GET', `/v1/jobs/${id}`)
    await call('GET', '/v1/jobs?queue=normal&limit=10')
    await call('GET', '/v1/stats')
    await setTimeout(20)
  }
}

interface Target {
  url: string
  port: number
}

/** A request that is written as it is given; resolves with the answer's first line and length, or why there was none. */
function ask({ port }: Target, head: string, body: Iterable<Buffer | string> = []): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    let [first, bytes, over] = ['', 0, false]
    const end = (why: string) => {
      over = true
      resolve(first === '' ? why : `${first}, ${(bytes / mebibyte).toFixed(1)} MiB`)
    }
    socket.on('data', (piece) => {
      bytes += piece.length
      if (first === '') first = piece.toString('latin1').split('\r\n')[0]!
    })
    socket.once('error', ({ message }) => end(message)).once('close', () => end('closed'))
    const write = async () => {
      socket.write(`${head}\r\nhost: localhost\r\nconnection: close\r\n`)
      socket.write('\r\n')
      for (const piece of body) {
        if (over || !socket.writable) return
        if (!socket.write(piece)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => undefined) // biome-ignore format: short
      }
    }
    void write()
  })
}

const post = (at: Target, path: string, text: string, type = 'application/json') =>
  ask(at, `POST ${path} HTTP/1.1\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(text)}`, [text])
const get = (at: Target, path: string) => ask(at, `GET ${path} HTTP/1.1`)

function* times(count: number, piece: Buffer): Generator<Buffer> {
  for (let i = 0; i < count; i++) yield piece
}

const members = (count: number) => Array.from({ length: count }, (_, i) => `"${i}":0`).join(',')

/** Names of queues in the file before the server starts: what its bounds on new ones would keep out. */
const named = (count: number) => async (file: string) => {
  await using queue = await GopherQueue.open(file)
  const task = queue.define('t', {})
  for (let i = 0; i < count; i += 1)
    if (i % 2000 === 1999 || i === count - 1)
      await Promise.all(Array.from({ length: (i % 2000) + 1 }, (_, j) => task.submit(j, { queue: `q${i - j}` })))
}

const payloads = (count: number) => async (file: string) => {
  await using queue = await GopherQueue.open(file)
  const task = queue.define('t', {})
  for (let i = 0; i < count; i += 20) await task.submitMany(Array(20).fill(large))
}

/** What an open dashboard asks, again and again. */
async function dashboard(at: Target, ms: number): Promise<string> {
  const paths = ['/v1/stats', '/v1/history', '/v1/health', '/v1/queues', '/metrics']
  let [looks, last] = [0, '']
  for (const end = performance.now() + ms; performance.now() < end; looks++) {
    const answers = await Promise.all(paths.map((path) => get(at, path)))
    last = answers.join('; ')
    await setTimeout(250)
  }
  return `${looks} looks: ${last}`
}

interface Attack {
  prepare?: (file: string) => Promise<void>
  run: (at: Target) => Promise<string | string[]>
}

const attacks: Record<string, Attack> = {
  nothing: {
    async run() {
      await setTimeout(5000)
      return 'what this machine does by itself'
    },
  },
  'a line of 512 MiB': {
    run: (at) => ask(at, `POST /v1/jobs/bulk HTTP/1.1\r\ncontent-type: application/x-ndjson\r\ncontent-length: ${512 * mebibyte}`, times(512, Buffer.alloc(mebibyte, 'x'))), // biome-ignore format: long
  },
  'a bulk of 1,000,000 {}': { run: (at) => post(at, '/v1/jobs/bulk', `{"jobs":[${Array(1_000_000).fill('{}').join()}]}`) }, // biome-ignore format: long
  '60 MB of newlines': { run: (at) => post(at, '/v1/jobs/bulk', '\n'.repeat(60_000_000), 'application/x-ndjson') },
  '60 bodies that stop before their end': {
    async run({ port }) {
      const sockets = Array.from({ length: 60 }, () =>
        connect(port, '127.0.0.1')
          .on('error', () => undefined)
          .resume(),
      )
      const line = `{"type":"x","payload":"${large.slice(100)}"}\n`
      for (const socket of sockets)
        socket.write(`POST /v1/jobs/bulk HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: ${21 * line.length}\r\n\r\n${line.repeat(20)}`) // biome-ignore format: long
      await setTimeout(10_000)
      for (const socket of sockets) socket.destroy()
      return 'sent'
    },
  },
  'a payload of 90,000 members': { run: (at) => Promise.all(Array.from({ length: 10 }, () => post(at, '/v1/jobs', `{"type":"x","payload":{${members(90_000)}}}`))) }, // biome-ignore format: long
  'pages of 400 jobs of 1 MiB': {
    prepare: payloads(400),
    run: (at) => Promise.all(Array.from({ length: 20 }, () => get(at, '/v1/jobs?limit=400'))),
  },
  '25 readers that never read': {
    prepare: payloads(400),
    async run({ port }) {
      const sockets = Array.from({ length: 25 }, () => connect(port, '127.0.0.1'))
      for (const socket of sockets) {
        socket.on('error', () => undefined)
        for (let i = 0; i < 30; i++) socket.write('GET /v1/jobs?limit=400 HTTP/1.1\r\nhost: localhost\r\n\r\n')
      }
      await setTimeout(15_000)
      for (const socket of sockets) socket.destroy()
      return 'sent'
    },
  },
  'a lease of 1,000 jobs of 1 MiB': {
    prepare: payloads(400),
    run: (at) => Promise.all(['a', 'b', 'c', 'd'].map((worker) => post(at, '/v1/leases', `{"worker":"${worker}","types":["t"],"slots":1000,"waitMs":0}`))), // biome-ignore format: long
  },
  '10,000 names of queues': {
    run: (at) => post(at, '/v1/jobs/bulk', `{"jobs":[${Array.from({ length: 10_000 }, (_, i) => `{"type":"x","queue":"n${i}"}`).join()}]}`), // biome-ignore format: long
  },
  '10,000 names of types': {
    run: (at) => post(at, '/v1/jobs/bulk', `{"jobs":[${Array.from({ length: 10_000 }, (_, i) => `{"type":"n${i}"}`).join()}]}`), // biome-ignore format: long
  },
  '20,000 queues and a dashboard': { prepare: named(20_000), run: (at) => dashboard(at, 10_000) },
  '50,000 queues and a dashboard': { prepare: named(50_000), run: (at) => dashboard(at, 10_000) },
}

const memoryOf = (pid: number, name: 'VmRSS' | 'VmHWM') =>
  Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024

async function heard(child: ChildProcess): Promise<{ longest: number; asked: number; failed: number }> {
  const told = once(child, 'message')
  child.send('tell')
  return (await told)[0]
}

/** A real server in a process of its own. */
async function served(file: string): Promise<Target & { server: ChildProcess }> {
  const server = spawn(process.execPath, [join(import.meta.dirname, '../src/main.ts'), 'serve', '--db', file, '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] }) // biome-ignore format: long
  let url = ''
  for await (const piece of server.stdout!.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    url = /http:\/\/127\.0\.0\.1:\d+/.exec(String(piece))?.[0] ?? ''
    if (url !== '') break
  }
  server.stdout!.resume()
  return { url, port: Number(new URL(url).port), server }
}

async function attack(name: string, { prepare, run }: Attack): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-attacks-'))
  const file = join(folder, 'jobs.db')
  await prepare?.(file)
  const { server, ...at } = await served(file)
  const { url } = at
  const health = fork(import.meta.filename, ['sample', url, 'GET', '/healthz'])
  const submits = fork(import.meta.filename, ['sample', url, 'POST', '/v1/jobs', '{"type":"other","queue":"q1"}'])
  await setTimeout(3000)
  const rest = memoryOf(server.pid!, 'VmRSS')
  const says = await run(at)
  await setTimeout(500)
  const [lives, submitted] = [await heard(health), await heard(submits)]
  const above = memoryOf(server.pid!, 'VmHWM') - rest
  console.log(
    `${name}: /healthz ${lives.longest.toFixed(0)} ms (${lives.failed} failed), submission ${submitted.longest.toFixed(0)} ms (${submitted.failed} of ${submitted.asked} failed), memory ${above.toFixed(0)} MiB above rest; ${[says].flat()[0]}`,
  )
  server.kill()
  await once(server, 'exit')
  rmSync(folder, { recursive: true })
}

/** All attacks in turn for so long, on one file with jobs and names enough for each of them. */
async function beside(minutes: number, wanted: string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-attacks-'))
  const file = join(folder, 'jobs.db')
  await named(20_000)(file)
  await payloads(400)(file)
  const { server, ...at } = await served(file)
  const normal = fork(import.meta.filename, ['client', at.url])
  const told = async (): Promise<Met> => {
    const said = once(normal, 'message')
    normal.send('tell')
    return (await said)[0]
  }
  const all = nothingMet()
  await setTimeout(3000)
  await told() // what the first calls of a process cost is not the attackers' doing
  const rest = memoryOf(server.pid!, 'VmRSS')
  for (const end = performance.now() + minutes * 60_000; performance.now() < end; )
    for (const [name, { run }] of Object.entries(attacks)) {
      if (performance.now() >= end) break
      if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) continue
      await run(at)
      const met = await told()
      all.calls += met.calls
      all.failed += met.failed
      all.refused += met.refused
      all.longest = Math.max(all.longest, met.longest)
      console.log(`beside ${name}: ${met.calls} calls, ${met.failed} of 5xx, ${met.refused} refused, longest ${met.longest.toFixed(0)} ms, ${met.notes.join('; ')}; load ${loadavg()[0]!.toFixed(1)}`) // biome-ignore format: long
    }
  const above = memoryOf(server.pid!, 'VmHWM') - rest
  const isWell = all.failed === 0 && all.longest <= 1000
  console.log(`${isWell ? 'well' : 'NOT WELL'}: ${all.calls} calls, ${all.failed} of 5xx, ${all.refused} refused, longest ${all.longest.toFixed(0)} ms, memory ${above.toFixed(0)} MiB above rest, load ${loadavg().map((load) => load.toFixed(1))}`) // biome-ignore format: long
  normal.kill()
  server.kill()
  await once(server, 'exit')
  rmSync(folder, { recursive: true })
  process.exitCode = isWell ? 0 : 1
}

const [, , first, ...given] = process.argv
if (first === 'client') await client(given[0]!)
else if (first === 'beside') await beside(Number(given[0] ?? 30), given.slice(1))
else if (first === 'sample') await sample(...(given as [string, string, string, string?]))
else {
  const wanted = [first, ...given].filter((name) => name !== undefined)
  for (const [name, one] of Object.entries(attacks))
    if (wanted.length === 0 || wanted.some((part) => name.includes(part!))) await attack(name, one)
}
