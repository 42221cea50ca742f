import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { packedProject } from '../support/packed.ts'
import { type Server, serve } from './apps.ts'

// What docs/bundlers.md says of Next.js and Nest, with the packed package: the blocks of the page are the files of the apps.

const page = readFileSync(join(import.meta.dirname, '../../docs/bundlers.md'), 'utf8')
const packages = ['next@16.4.6', 'react@19.3.1', 'react-dom@19.3.1', '@nestjs/core@12.5.1', '@nestjs/common@12.5.1', '@nestjs/platform-express@12.5.1', 'reflect-metadata@0.2.2', 'rxjs@7.8.2', 'typescript@6.0.3', '@types/node@24.19.4', '@types/react@19.3.3', '@types/better-sqlite3@9.6.0', 'better-sqlite3@13.2.0', '@nestjs/testing@12.1.1'] // biome-ignore format: one line
const { folder, project } = packedProject('module', ...packages)
after(() => folder[Symbol.dispose]())

/** The blocks under a heading of the page, by the name of a file that each begins with. */
function filesOf(title: string): Record<string, string> {
  const text = page.split(`\n## ${title}\n`)[1]!.split('\n## ')[0]!
  const blocks = text.matchAll(/^```(?:js|ts).*\n(\/\/ ([\w./-]+).*\n[\s\S]*?)^```/gm)
  return Object.fromEntries([...blocks].map(([, block, name]) => [name!, block!]))
}

function write(at: string, files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(at, name)), { recursive: true })
    writeFileSync(join(at, name), text)
  }
}

const { NODE_TEST_CONTEXT: _, ...inherited } = process.env // else a runner of tests in the project reports to ours
const env = { ...inherited, NEXT_TELEMETRY_DISABLED: '1' }
const tool = (cwd: string, name: string, ...args: string[]) =>
  execFileSync(process.execPath, [join(project, 'node_modules', name), ...args], { cwd, env, stdio: 'pipe' })

const nextFiles = filesOf('Next.js')
const ownFile = filesOf('Next.js, with better-sqlite3')
const external = `serverExternalPackages: ['gopherqueue']`

const tsconfig = JSON.stringify({ compilerOptions: { strict: true }, exclude: ['node_modules', 'nest-*'] })

/** Builds the app of the page for `output: 'standalone'`; answers a copy that has nothing of the project around it. */
function standalone(name: string, options: string, files: typeof nextFiles, ...args: string[]): string {
  const config = `export default { output: 'standalone', outputFileTracingRoot: import.meta.dirname, ${options} }`
  write(project, { ...nextFiles, ...files, 'next.config.mjs': config, 'tsconfig.json': tsconfig })
  rmSync(join(project, '.next'), { recursive: true, force: true })
  tool(project, 'next/dist/bin/next', 'build', ...args)
  // Links of the copy must lead into the copy: absolute ones would load a second better-sqlite3 from the project.
  cpSync(join(project, '.next/standalone'), folder.file(name), { recursive: true, verbatimSymlinks: true })
  return folder.file(name)
}

const greet = async (server: Server, body: string) => fetch(`${server.url}/greet`, { method: 'POST', body })
const result = (queue: GopherQueue, id: number) => queue.wait(id, { timeout: '2m' })

/** The app works a job that was there before it, unasked, then one of a request; both by the same worker. */
async function works(at: string): Promise<void> {
  await using queue = await GopherQueue.open(join(at, 'jobs.db'))
  const { id } = await queue.submit('greet', 'early bird')
  await using server = await serve(at, 'server.js')
  assert.equal(await result(queue, id).catch(() => server.output()), 'hello early bird')
  const response = await greet(server, 'gopher')
  assert.equal(response.status, 202)
  assert.equal(await result(queue, ((await response.json()) as { id: number }).id), 'hello gopher')
  assert.equal((await queue.stats()).workers.length, 1)
}

test('Next.js with Turbopack, standalone', () => works(standalone('turbopack', '', {})))

test('Next.js with --webpack is refused, and says what to write', async () => {
  const at = standalone('webpack', '', {}, '--webpack')
  await using server = await serve(at, 'server.js')
  await server.said(/STORAGE_UNAVAILABLE/)
  assert.match(server.output(), /The storage thread could not start .*serverExternalPackages: \['gopherqueue'\] in next\.config/) // biome-ignore format: one line
  assert.equal((await greet(server, 'gopher')).status, 500)
})

test('Next.js with --webpack and serverExternalPackages, standalone', () =>
  works(standalone('external', external, {}, '--webpack')))

test('Next.js with Turbopack and the driver, standalone', () => works(standalone('driver', external, ownFile)))

test('Next.js with Turbopack and the driver is refused in the bundle, and says what to write', async () => {
  await using server = await serve(standalone('bundled-driver', '', ownFile), 'server.js')
  await server.said(/The driver file:\S+ cannot be loaded: .*keep gopherqueue out of the bundle: serverExternalPackages: \['gopherqueue'\] in next\.config/) // biome-ignore format: one line
})

const deploy = readFileSync(join(import.meta.dirname, '../../docs/deploy.md'), 'utf8')
const image = deploy.split('\n## Next.js, standalone\n')[1]!.split('\n## ')[0]!

/** The app of the page as the Dockerfile lays it out, with a handler that hangs while HANG is set. */
function laidOut(): string {
  const short = /\(\{ payload \}\) => `hello .*?`/
  assert.match(nextFiles['queue.ts']!, short)
  const hangs = `if (process.env.HANG) await new Promise((_, fail) => {
    signal.addEventListener('abort', () => fail(signal.reason))
    console.log('the handler runs')
  })`
  const text = nextFiles['queue.ts']!.replace(short, `async ({ payload }, { signal }) => { ${hangs}; return 'hello ' + payload }`) // biome-ignore format: one line
  standalone('built', '', { 'queue.ts': text, 'public/gopher.txt': 'a gopher' })
  const at = folder.file('image')
  for (const [, from, to] of image.matchAll(/^COPY --from=build \S+ \/app\/(\S+) (\S+)$/gm))
    cpSync(join(project, from!), join(at, to!), { recursive: true, verbatimSymlinks: true })
  return at
}

test('Next.js, standalone, as its Dockerfile has it: a stop charges no job, and each runs again', async () => {
  const at = laidOut()
  const set = Object.fromEntries([.../^ENV (.*)$/m.exec(image)![1]!.split(' ')].map((pair) => pair.split('=')))
  mkdirSync(folder.file('data'))
  const file = folder.file('data/jobs.db')
  const start = (name: string, more: Record<string, string>) => {
    const lines = Object.entries({ ...set, QUEUE: file, ...more }).map(([key, value]) => `${key}=${value}\n`)
    writeFileSync(folder.file(name), lines.join(''))
    return serve(at, `--env-file=${folder.file(name)}`, 'server.js')
  }
  for (const [manual, end, history] of [
    ['true', 0, []],
    ['', 143, ['lost']], // as without: Next.js ends the process itself, at once
  ] as const) {
    let id: number
    {
      await using server = await start('first.env', { HANG: '1', NEXT_MANUAL_SIG_HANDLE: manual })
      assert.equal(await (await fetch(`${server.url}/gopher.txt`)).text(), 'a gopher')
      const chunk = readdirSync(join(at, '.next/static'), { recursive: true, encoding: 'utf8' }).find((name) => name.endsWith('.js'))! // biome-ignore format: one line
      assert.equal((await fetch(`${server.url}/_next/static/${chunk}`)).status, 200)
      ;({ id } = (await (await greet(server, 'gopher')).json()) as { id: number })
      await server.said(/the handler runs/)
      assert.equal(await server.stop(), end, server.output())
    }
    await using queue = await GopherQueue.open(file)
    const job = (await queue.job(id))!
    const attempts = await queue.history(id)
    assert.deepEqual([job.state, job.attemptsLeft], ['ready', job.maxAttempts])
    assert.deepEqual(attempts.map(({ outcome }) => outcome), history) // biome-ignore format: short
    for (const { error } of attempts) assert.match(error!.message, /^Its process had begun to stop, and ended while it ran .*No job is charged for that\.$/) // biome-ignore format: one line
    await using _ = await start('second.env', { NEXT_MANUAL_SIG_HANDLE: manual })
    assert.equal(await result(queue, id), 'hello gopher')
  }
})

test('Next.js in development: a module that is loaded again opens nothing again', async () => {
  write(project, { ...nextFiles, 'next.config.mjs': 'export default {}' })
  rmSync(join(project, '.next'), { recursive: true, force: true })
  await using server = await serve(project, 'node_modules/next/dist/bin/next', 'dev')
  assert.equal((await greet(server, 'gopher')).status, 202)
  const edited = (name: string, from: string, to: string) => {
    assert.ok(nextFiles[name]!.includes(from))
    return { [name]: nextFiles[name]!.replace(from, to) }
  }
  write(project, { ...edited('queue.ts', 'hello', 'bye'), ...edited('app/greet/route.ts', '202', '201') })
  let response = await greet(server, 'gopher')
  while (response.status !== 201) response = await greet(server, 'gopher')
  await using queue = await GopherQueue.open(join(project, 'jobs.db'))
  assert.equal(await result(queue, ((await response.json()) as { id: number }).id), 'hello gopher')
  assert.equal((await queue.stats()).workers.length, 1)
})

const nestFiles = filesOf('Nest')
const compilerOptions = { module: 'nodenext', target: 'es2023', types: ['node'], strict: true, isolatedModules: true, esModuleInterop: true, skipLibCheck: true, experimentalDecorators: true, emitDecoratorMetadata: true, rootDir: 'src', outDir: 'dist' } // biome-ignore format: one line

/** Compiles the app of the page as Nest's own template does; the handler does `task` first. */
function nest(type: 'module' | 'commonjs', name: string, task: string): string {
  const at = join(project, `nest-${type}-${name}`)
  const own = / {6}signal\.throwIfAborted.*/
  assert.match(nestFiles['mails.service.ts']!, own)
  for (const [file, text] of Object.entries(nestFiles)) write(at, { [`src/${file}`]: text.replace(own, task) })
  write(at, { 'package.json': JSON.stringify({ type }), 'tsconfig.json': JSON.stringify({ compilerOptions }) })
  tool(at, 'typescript/bin/tsc', '-p', '.')
  return at
}

test('Nest: the test of the page passes', () => {
  const at = nest('module', 'spec', '')
  const printed = execFileSync(process.execPath, ['--test', '--test-reporter=tap', 'dist/mails.spec.js'], { cwd: at, env, encoding: 'utf8' }) // biome-ignore format: one line
  assert.match(printed, /^# pass 1$/m)
})

/** Sends SIGTERM while a job runs; answers the job, its attempts, and how the app ended. */
async function ended(at: string) {
  await using server = await serve(at, 'dist/main.js')
  const sent = await fetch(`${server.url}/mails`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"to":"ada"}' }) // biome-ignore format: one line
  const { id } = (await sent.json()) as { id: number }
  await server.said(/the handler runs/)
  const end = await server.stop()
  await using queue = await GopherQueue.open(join(at, 'jobs.db'))
  return { end, job: await queue.job(id), attempts: await queue.history(id) }
}

for (const type of ['module', 'commonjs'] as const) {
  test(`Nest, ${type}: on SIGTERM a running job may end`, async () => {
    const task = `await new Promise<void>((end) => { process.once('SIGTERM', () => setImmediate(end)); console.log('the handler runs') })`
    const { end, job } = await ended(nest(type, 'ends', `${task}; signal.throwIfAborted()`))
    assert.deepEqual([end, job?.state, job?.result], ['SIGTERM', 'succeeded', 'sent to ada'])
  })

  test(`Nest, ${type}: a job that does not end in time goes back uncharged`, async () => {
    const task = `await new Promise<void>((_, fail) => { signal.addEventListener('abort', () => fail(signal.reason)); console.log('the handler runs') })`
    const { end, job, attempts } = await ended(nest(type, 'over', task))
    assert.deepEqual([end, job?.state, job?.attemptsLeft, attempts.length], ['SIGTERM', 'ready', job?.maxAttempts, 0])
  })
}
