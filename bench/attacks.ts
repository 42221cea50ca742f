// npm run bench:attacks [-- NAME...]: what single clients try against a server. Each attack gets a real server of its own; told
// are the longest wait for /healthz and for a submission of somebody else meanwhile, and the memory above rest.
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request as send } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
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

async function attack(name: string, { prepare, run }: Attack): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-attacks-'))
  const file = join(folder, 'jobs.db')
  await prepare?.(file)
  const server = spawn(process.execPath, [join(import.meta.dirname, '../src/main.ts'), 'serve', '--db', file, '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] }) // biome-ignore format: long
  let url = ''
  for await (const piece of server.stdout!.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    url = /http:\/\/127\.0\.0\.1:\d+/.exec(String(piece))?.[0] ?? ''
    if (url !== '') break
  }
  server.stdout!.resume()
  const at: Target = { url, port: Number(new URL(url).port) }
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

const [, , first, ...given] = process.argv
if (first === 'sample') await sample(...(given as [string, string, string, string?]))
else {
  const wanted = [first, ...given].filter((name) => name !== undefined)
  for (const [name, one] of Object.entries(attacks))
    if (wanted.length === 0 || wanted.some((part) => name.includes(part!))) await attack(name, one)
}
