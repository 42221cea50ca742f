// npm run bench:soak [-- --seconds 1800 --idle 10000 --connections 50]: one server under mixed load beside idle long polls.
// Prints its memory as it goes, before the polls, with them and after they left, and what it answered, by status and code.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '1800' },
    idle: { type: 'string', default: '10000' },
    connections: { type: 'string', default: '50' },
  },
})
const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-soak-'))
const main = join(import.meta.dirname, '../src/main.ts')
const args = [main, '--db', join(folder, 'jobs.db'), 'serve', '--port', '0', '--log-level', 'silent']
const collect = `data:text/javascript,process.on('SIGUSR2',()=>{gc();console.log('heap '+process.memoryUsage().heapUsed)})`
const server = spawn(process.execPath, ['--expose-gc', '--import', collect, ...args], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
const [greeting] = (await once(server.stdout, 'data')) as [Buffer]
const { hostname, host, port } = new URL(/http:\S+/.exec(greeting.toString())![0])
const resident = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))![1]) / 1024

/** Resident, and what its main thread's heap holds after a collection: that is what a leak would show in. */
async function memory(): Promise<string> {
  server.kill('SIGUSR2')
  const [line] = (await once(server.stdout, 'data')) as [Buffer]
  return `${resident().toFixed(0)} MB, ${(Number(/heap (\d+)/.exec(line.toString())![1]) / 1024 / 1024).toFixed(1)} MB of it live on the heap`
}

const answers: Record<string, number> = {}
let requests = 0

/** One connection, which is opened again when it breaks. */
class Line {
  #socket: Socket | undefined
  #text = ''
  #heard: ((answer: { status: number; body: string }) => void) | undefined

  async ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: string }> {
    const { promise, resolve } = Promise.withResolvers<{ status: number; body: string }>()
    this.#heard = resolve
    this.#socket ??= this.#open()
    const text = body === undefined ? '' : JSON.stringify(body)
    const type = text === '' ? '' : 'content-type: application/json\r\n'
    this.#socket.write(
      `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\n${type}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
    )
    return promise
  }

  close(): void {
    this.#heard = undefined
    this.#socket?.destroy()
  }

  #open(): Socket {
    const socket = connect(Number(port), hostname).setNoDelay(true)
    socket.setEncoding('latin1').on('data', (piece: string) => {
      this.#text += piece
      const head = this.#text.indexOf('\r\n\r\n') + 4
      const length = Number(/content-length: (\d+)/i.exec(this.#text)?.[1])
      if (head < 4 || this.#text.length < head + length) return
      const answer = { status: Number(this.#text.slice(9, 12)), body: this.#text.slice(head, head + length) }
      this.#text = ''
      this.#heard?.(answer)
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#socket = undefined
      this.#text = ''
      this.#heard?.({ status: 0, body: '' })
    })
    return socket
  }
}

let running = true
let polling = true

async function load(n: number): Promise<void> {
  const line = new Line()
  const ask = async (method: string, path: string, body?: unknown) => {
    const answer = await line.ask(method, path, body)
    requests++
    const kind =
      answer.status < 300 ? `${answer.status}` : `${answer.status} ${/"code":"(\w+)"/.exec(answer.body)?.[1]}`
    answers[kind] = (answers[kind] ?? 0) + 1
    return answer
  }
  while (running) {
    const { body } = await ask('POST', '/v1/jobs', { type: `t${n % 5}`, payload: { text: 'x'.repeat(180) } })
    const { id } = JSON.parse(body || '{}')
    await ask('GET', `/v1/jobs/${id}`)
    const leased = await ask('POST', '/v1/leases', { worker: `w${n}`, types: [`t${n % 5}`], slots: 3, waitMs: 100 })
    for (const job of JSON.parse(leased.body || '{"jobs":[]}').jobs ?? [])
      if (job.id % 50 === 0) await ask('POST', `/v1/jobs/${job.id}/fail`, { token: job.token, kind: 'permanent' })
      else
        await ask('POST', '/v1/reports', { reports: [{ id: job.id, token: job.token, event: 'succeed', result: 1 }] })
    if (id % 500 === 0) await ask('GET', '/v1/stats')
  }
  line.close()
}

async function idle(n: number): Promise<void> {
  const line = new Line()
  idlers.add(line)
  while (polling) await line.ask('POST', '/v1/leases', { worker: `idle-${n}`, types: ['never'], waitMs: 55_000 })
}
const idlers = new Set<Line>()

console.log(`at rest: ${await memory()}`)
for (let n = 0; n < Number(flags.idle); n++) {
  idle(n)
  if (n % 200 === 0) await pause(50)
}
await pause(5000)
console.log(`${flags.idle} idle polls: ${await memory()}`)
const workers = Array.from({ length: Number(flags.connections) }, (_, n) => load(n))
const start = performance.now()
while (performance.now() - start < Number(flags.seconds) * 1000) {
  const before = requests
  await pause((Number(flags.seconds) * 1000) / 20)
  const rate = Math.round(((requests - before) * 20) / Number(flags.seconds))
  console.log(`${Math.round((performance.now() - start) / 1000)} s: ${await memory()}; ${rate} requests/s`)
}
running = false
await Promise.all(workers)
console.log(`${requests} requests: ${JSON.stringify(answers)}`)
polling = false
for (const line of idlers) line.close()
await pause(10_000)
console.log(`the polls left: ${await memory()}`)
server.kill('SIGTERM')
await once(server, 'exit')
rmSync(folder, { recursive: true })
process.exit()
