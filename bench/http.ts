// npm run bench:http [-- --seconds 5 --rounds 3 --jobs 50000 --connections 100 --concurrency 200]: submissions over HTTP
// beside a bare node:http server that stores nothing, and remote work. Server, worker and load are processes of their own.
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { GopherQueue } from '../src/index.ts'

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    jobs: { type: 'string', default: '50000' },
    connections: { type: 'string', default: '100' },
    concurrency: { type: 'string', default: '200' },
  },
})
const [seconds, rounds, jobs] = [Number(flags.seconds), Number(flags.rounds), Number(flags.jobs)]
const [connections, concurrency] = [Number(flags.connections), Number(flags.concurrency)]
const payload = { to: 'ada@example.org', text: 'x'.repeat(158) } // 200 bytes of JSON

/** Reads and parses the same request, answers as the real one does. */
function bare(): void {
  let id = 0
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    JSON.parse(Buffer.concat(chunks).toString())
    const answer = JSON.stringify({ id: ++id, duplicate: false })
    response.writeHead(201, { 'content-type': 'application/json', 'content-length': answer.length })
    response.end(answer)
  })
  server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
}

/** Keep-alive connections that send the next request when the last is answered: bare sockets, to leave the CPU to the server. */
async function load(url: string): Promise<void> {
  const body = JSON.stringify({ type: 'none', payload })
  const { host, hostname, port } = new URL(url)
  const request = `POST /v1/jobs HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  let [answered, running] = [0, true]
  const times: number[] = []
  const one = async (): Promise<void> => {
    const socket = connect(Number(port), hostname).setNoDelay(true)
    let [sent, text] = [0, '']
    const send = () => {
      sent = performance.now()
      socket.write(request)
    }
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece
      const head = text.indexOf('\r\n\r\n')
      if (head < 0 || text.length < head + 4 + Number(/content-length: (\d+)/i.exec(text)![1])) return
      if (!text.startsWith('HTTP/1.1 201')) throw new Error(text)
      text = ''
      answered++
      times.push(performance.now() - sent)
      if (running) send()
      else socket.end()
    })
    await once(socket, 'connect')
    send()
    await once(socket, 'close')
  }
  const all = Promise.all(Array.from({ length: connections }, one))
  await new Promise((resolve) => setTimeout(resolve, 1000)) // to be warm
  answered = times.length = 0
  const start = performance.now()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const rate = (answered * 1000) / (performance.now() - start)
  running = false
  await all
  times.sort((a, b) => a - b)
  console.log(JSON.stringify({ rate, p50: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] }))
}

async function work(url: string): Promise<void> {
  const queue = await GopherQueue.open(url)
  let done = 0
  queue.define('noop', {}, async () => null)
  queue.on('succeeded', () => {
    if (++done === jobs) console.log(JSON.stringify({ rate: (jobs * 1000) / (performance.now() - start) }))
  })
  const start = performance.now()
  queue.work({ concurrency })
  await once(process, 'SIGTERM')
  await queue.close()
}

/** The first line that it prints, or what comes at the end of it. */
async function line(child: ChildProcess): Promise<string> {
  const [text] = (await once(child.stdout!, 'data')) as [Buffer]
  return text.toString().trim()
}
const role = (...args: string[]) =>
  fork(import.meta.filename, [...process.argv.slice(2), ...args], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })

async function stopped(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

async function served<T>(use: (url: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-http-'))
  const main = join(import.meta.dirname, '../src/main.ts')
  const profile = process.env.PROFILE ? ['--cpu-prof', `--cpu-prof-dir=${process.env.PROFILE}`] : []
  const args = [...profile, main, '--db', join(folder, 'jobs.db'), 'serve', '--port', '0', '--log-level', 'silent']
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    return await use((await line(server)).split(' at ')[1]!)
  } finally {
    await stopped(server)
    rmSync(folder, { recursive: true })
  }
}

interface Measured {
  rate: number
  p50: number
  p99: number
}
const measured = async (child: ChildProcess): Promise<Measured> => JSON.parse(await line(child))
const shown = ({ rate, p50, p99 }: Measured) =>
  `${Math.round(rate)}/s, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`
const median = (numbers: number[]) => numbers.sort((a, b) => a - b)[numbers.length >> 1]!

async function compare(): Promise<void> {
  const ratios: number[] = []
  const rates: number[] = []
  for (let round = 1; round <= rounds; round++) {
    const plain = role('bare')
    const ceiling = await measured(role('load', await line(plain)))
    await stopped(plain)
    const real = await served((url) => measured(role('load', url)))
    ratios.push(real.rate / ceiling.rate)
    console.log(`submissions: bare ${shown(ceiling)}; served ${shown(real)}; ${ratios.at(-1)!.toFixed(2)}`)
    const remote = await served(async (url) => {
      const queue = await GopherQueue.open(url)
      for (let left = jobs; left > 0; left -= 10_000)
        await queue.submitMany('noop', Array(Math.min(left, 10_000)).fill(payload))
      await queue.close()
      const worker = role('work', url)
      const result = await measured(worker)
      await stopped(worker)
      return result
    })
    rates.push(remote.rate)
    console.log(`remote work: ${Math.round(remote.rate)} jobs/s`)
  }
  console.log(`median: ${median(ratios).toFixed(2)} of bare, ${Math.round(median(rates))} jobs/s`)
}

const [mode, url = ''] = positionals
await (mode === 'bare' ? bare() : mode === 'load' ? load(url) : mode === 'work' ? work(url) : compare())
