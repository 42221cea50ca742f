import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Bench, type Running } from '../cli/support.ts'

// The workers of docs/http.md, each against a real server, fetching from a site that fails in the ways that they know.

const root = join(import.meta.dirname, '../..')
const has = (command: string, ...args: string[]) => spawnSync(command, args).status === 0
const source = (name: string) => join(root, 'examples/workers', name)

interface Language {
  name: string
  slots: number
  /** Why it cannot be run here, or false. */
  skip: string | false
  /** Why its handler cannot be stopped. */
  cannotStop?: string
  /** What starts it, made ready in a folder. */
  command(folder: string): string[]
  seconds(n: number): string
}
const languages: Language[] = [
  {
    ...{ name: 'worker.py', slots: 4, skip: !has('python3', '--version') && 'no python3 here' },
    cannotStop: 'urlopen waits for its answer',
    command: () => ['python3', source('worker.py')],
    seconds: String,
  },
  {
    ...{ name: 'worker.sh', slots: 1, skip: !(has('bash', '--version') && has('curl', '--version')) && 'no bash and curl here' }, // biome-ignore format: long
    command: () => ['bash', source('worker.sh')],
    seconds: String,
  },
  {
    ...{ name: 'worker.go', slots: 4, skip: !has('go', 'version') && 'no go here' },
    command(folder) {
      const built = spawnSync('go', ['build', '-o', join(folder, 'worker'), source('worker.go')], { encoding: 'utf8' })
      assert.equal(built.status, 0, built.stderr)
      return [join(folder, 'worker')]
    },
    seconds: (n) => `${n}s`,
  },
]

type Answer = Record<string, never>

/** A queue behind `gopherqueue serve`, a site to fetch from, and workers of one language. */
class Stage {
  readonly bench: Bench
  readonly #t: TestContext
  readonly #language: Language
  #command: string[] | undefined
  #server: Running | undefined
  url = ''
  site = ''
  token = ''
  /** Requests that the site has had, by path. */
  readonly asked = new Map<string, number>()
  readonly #held = new Set<ServerResponse>()
  #wake: () => void = () => undefined

  private constructor(t: TestContext, language: Language) {
    this.#t = t
    this.#language = language
    this.bench = new Bench(t)
  }

  static async open(t: TestContext, language: Language): Promise<Stage> {
    const stage = new Stage(t, language)
    const site = createHttpServer(({ url = '' }, response) => {
      const times = (stage.asked.get(url) ?? 0) + 1
      stage.asked.set(url, times)
      if (url.startsWith('/slow')) stage.#hold(response)
      else response.writeHead(url.startsWith('/gone') ? 404 : url.startsWith('/busy') && times === 1 ? 503 : 200).end('hello') // biome-ignore format: long
      stage.#wake()
    }).listen(0, '127.0.0.1')
    await once(site, 'listening')
    stage.site = `http://127.0.0.1:${(site.address() as AddressInfo).port}`
    t.after(() => {
      site.closeAllConnections()
      site.close()
    })
    await stage.serve()
    return stage
  }

  async serve(): Promise<void> {
    const port = this.url === '' ? '0' : new URL(this.url).port
    const server = this.bench.start('serve', '--port', port, '--log-level', 'warn')
    this.#server = server
    this.url = await server.serves()
  }

  async kill(): Promise<void> {
    this.#server!.child.kill('SIGKILL')
    await this.#server!.ended
  }

  /** In the server's place, something that hangs up on all who call, until `times` have. */
  async nobodyAnswers(times: number): Promise<void> {
    const wall = createServer((socket) => socket.destroy()).listen(Number(new URL(this.url).port), '127.0.0.1')
    for (let calls = 0; calls < times; calls++) await once(wall, 'connection')
    wall.close()
    await once(wall, 'close')
  }

  async ask(method: string, path: string, body?: object): Promise<Answer> {
    const headers = {
      ...(body && { 'content-type': 'application/json' }),
      ...(this.token && { authorization: `Bearer ${this.token}` }),
    }
    const response = await fetch(this.url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) })
    assert.ok(response.ok, `${path} ${await response.clone().text()}`)
    return (await response.json()) as Answer
  }

  async submit(paths: string[], options = {}): Promise<number[]> {
    const jobs = paths.map((path) => ({ payload: { url: this.site + path } }))
    const common = { type: 'fetch', backoff: { kind: 'constant', delay: 1 }, ...options }
    return (await this.ask('POST', '/v1/jobs/bulk', { common, jobs })).ids!
  }

  ended = (id: number) => this.ask('GET', `/v1/jobs/${id}/wait`)

  /** Until the site holds so many requests. */
  async holds(requests: number): Promise<void> {
    while (this.#held.size !== requests)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        this.#t.signal.addEventListener('abort', () => resolve())
      })
  }

  #hold(response: ServerResponse): void {
    this.#held.add(response)
    response.once('close', () => {
      this.#held.delete(response)
      this.#wake()
    })
  }

  letGo(): void {
    for (const response of this.#held) response.end('hello')
    this.#held.clear()
  }

  work(environment: Record<string, string> = {}): Worker {
    this.#command ??= this.#language.command(this.bench.folder)
    const worker = new Worker(this.#command, { GOPHERQUEUE_URL: this.url, ...environment })
    this.#t.after(() => worker.process.kill('SIGKILL'))
    return worker
  }

  async workers(): Promise<{ name: string; slots: number }[]> {
    return (await this.ask('GET', '/v1/stats')).workers!
  }

  async present(): Promise<void> {
    while ((await this.workers()).length === 0) await pause(20)
  }
}

class Worker {
  readonly process: ChildProcessByStdio<null, Readable, Readable>
  readonly ended: Promise<unknown>
  output = ''

  constructor([command, ...args]: string[], environment: Record<string, string>) {
    this.process = spawn(command!, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    })
    for (const stream of [this.process.stdout, this.process.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    this.ended = once(this.process, 'close').then(([code, signal]) => code ?? signal)
  }
}

for (const language of languages)
  describe(language.name, { skip: language.skip }, () => {
    test('20 jobs, some that fail for a while and some for good, and a server that is killed in the middle', async (t) => {
      const stage = await Stage.open(t, language)
      const kinds = ['ok', 'busy', 'ok', 'gone', 'ok', 'busy', 'ok', ...Array(4).fill('slow'), 'ok', 'gone', 'busy', 'ok', 'ok', 'gone', 'busy', 'ok', 'ok'] // biome-ignore format: long
      const ids = await stage.submit(kinds.map((kind, i) => `/${kind}/${i}`))
      const worker = stage.work()
      await stage.holds(language.slots)
      await stage.kill()
      stage.letGo() // now there is a result, and nobody to tell
      await stage.nobodyAnswers(2)
      await stage.serve()
      for (let left = 4 - language.slots; left > 0; left--) {
        await stage.holds(1)
        stage.letGo()
      }
      const jobs = await Promise.all(ids.map(stage.ended))
      for (const [i, { state, reason, attempt, result }] of jobs.entries()) {
        const expected = kinds[i] === 'gone' ? ['dead', 'permanent', 1, null] : ['succeeded', null, kinds[i] === 'busy' ? 2 : 1, { status: 200, bytes: 5 }] // biome-ignore format: long
        assert.deepEqual([state, reason, attempt, result], expected, `${kinds[i]} ${worker.output}`)
        assert.equal(stage.asked.get(`/${kinds[i]}/${i}`), attempt)
      }
      const { attempts } = await stage.ask('GET', `/v1/jobs/${ids[3]}/attempts`)
      const [{ outcome, error }] = attempts as unknown as [{ outcome: string; error: { message: string } }]
      assert.equal(outcome, 'failed')
      assert.match(error.message, /\/gone\/3 is not there \(404\)/)
      worker.process.kill('SIGTERM')
      assert.equal(await worker.ended, 0, worker.output)
      assert.deepEqual(await stage.workers(), [])
    })

    test('SIGTERM while it waits: it ends at once, and is signed off', async (t) => {
      const stage = await Stage.open(t, language)
      const worker = stage.work()
      await stage.present()
      const asked = performance.now()
      worker.process.kill('SIGTERM')
      assert.equal(await worker.ended, 0, worker.output)
      assert.ok(performance.now() - asked < 15_000, 'not after the long poll of 30 s')
      assert.deepEqual(await stage.workers(), [])
    })

    test('SIGTERM while it works: the job is finished, and no other is begun', async (t) => {
      const stage = await Stage.open(t, language)
      const worker = stage.work({ SLOTS: '1' })
      const [first, second] = await stage.submit(['/slow/1', '/ok/2'])
      await stage.holds(1)
      worker.process.kill('SIGTERM')
      for (;;) {
        const [me] = await stage.workers()
        if (language.name === 'worker.go' || me?.slots === 0) break // it has heard the signal; Go just hangs up
        await pause(20)
      }
      stage.letGo()
      assert.equal(await worker.ended, 0, worker.output)
      assert.equal((await stage.ask('GET', `/v1/jobs/${first}`)).state, 'succeeded')
      assert.equal((await stage.ask('GET', `/v1/jobs/${second}`)).state, 'ready')
      assert.deepEqual(await stage.workers(), [])
    })

    test('SIGTERM while it works for longer than it is given: the job goes back, uncharged', async (t) => {
      const stage = await Stage.open(t, language)
      const worker = stage.work({ GRACE: language.seconds(1) })
      const [id] = await stage.submit(['/slow/1'])
      await stage.holds(1)
      worker.process.kill('SIGTERM')
      assert.equal(await worker.ended, 0, worker.output)
      const { state, attempt } = await stage.ask('GET', `/v1/jobs/${id}`)
      assert.deepEqual([state, attempt], ['ready', 0], worker.output)
      assert.deepEqual(await stage.workers(), [])
      await stage.holds(0) // nor is anything of it left that goes on
    })

    test('a job that takes longer than its lease stays its own', async (t) => {
      const stage = await Stage.open(t, language)
      stage.work()
      const [id] = await stage.submit(['/slow/1'], { visibilityTimeout: '1s' })
      await stage.holds(1)
      for (;;) {
        const { startedAt, leaseExpiresAt } = await stage.ask('GET', `/v1/jobs/${id}`)
        if (leaseExpiresAt! - startedAt! > 2500) break
        await pause(50)
      }
      stage.letGo()
      const { state, attempt } = await stage.ended(id!)
      assert.deepEqual([state, attempt], ['succeeded', 1])
    })

    test('a token: one that the server does not know ends the worker, which says so; a right one works', async (t) => {
      const stage = await Stage.open(t, language)
      const token = async (scope: string) => (await stage.bench.run('token', 'create', scope, '--scope', scope)).stdout.trim() // biome-ignore format: long
      const [admin, work] = [await token('admin'), await token('work')]
      while ((await fetch(`${stage.url}/v1/stats`)).ok) await pause(50) // it asks for one within a second
      stage.token = admin
      const stranger = stage.work({ GOPHERQUEUE_TOKEN: 'gq_unknown' })
      assert.equal(await stranger.ended, 1)
      assert.match(stranger.output, /UNAUTHORIZED/)
      const [id] = await stage.submit(['/ok/1'])
      const worker = stage.work({ GOPHERQUEUE_TOKEN: work })
      assert.equal((await stage.ended(id!)).state, 'succeeded')
      worker.process.kill('SIGTERM')
      assert.equal(await worker.ended, 0)
      assert.deepEqual(await stage.workers(), [])
    })

    test('a job that is cancelled while it runs is stopped', { skip: language.cannotStop }, async (t) => {
      const stage = await Stage.open(t, language)
      stage.work()
      const [id] = await stage.submit(['/slow/1'], { visibilityTimeout: '1s' })
      await stage.holds(1)
      await stage.ask('POST', `/v1/jobs/${id}/cancel`)
      assert.equal((await stage.ended(id!)).state, 'cancelled')
      await stage.holds(0)
    })
  })

test('worker.sh: no command substitution where its trap runs', () => {
  // bash 5.2 loses the signal and hangs when it comes just before one: once in some 2,000 signals, so that no run shows it.
  const [, main] = readFileSync(source('worker.sh'), 'utf8').split(/^# work JOB/m)
  assert.doesNotMatch(main!, /\$\((?!\()/)
  assert.match(readFileSync(source('worker.sh'), 'utf8'), /^call\(\) \(/m)
})

test('docs/http.md shows these files as they are', () => {
  const page = readFileSync(join(root, 'docs/http.md'), 'utf8')
  for (const { name } of languages) assert.ok(page.includes(`\n${readFileSync(source(name), 'utf8')}\`\`\`\n`), name)
})
