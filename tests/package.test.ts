import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { npm, packedProject } from './support/packed.ts'

// The package as a stranger gets it: packed, installed into an empty project, and used there.

const root = join(import.meta.dirname, '..')
const { folder, project, files: packed } = packedProject('module')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
/** Runs a module of the project, given as its text. */
function run(source: string) {
  writeFileSync(join(project, 'script.mjs'), source)
  return spawnSync(process.execPath, ['script.mjs'], { cwd: project, encoding: 'utf8', timeout: 60_000 })
}

after(() => folder[Symbol.dispose]())

test('the tarball holds what is built and what explains it, and nothing else', () => {
  const rest = packed.filter(
    (path) =>
      !/^(deploy\/[\w.]+$|dist\/(.+\.(js|d\.ts)|(testing\/)?index\.(cjs|d\.cts)|docs\/[\w.-]+\.(html|css|svg|webp)|dashboard\/.+)$)/.test(
        path,
      ),
  )
  assert.deepEqual(rest.sort(), ['LICENSE', 'README.md', 'package.json'])
  for (const needed of [
    'index.js',
    'index.d.ts',
    'main.js',
    'store/sqlite/storage-thread.js',
    'queue/handler-thread.js',
    'testing/index.js',
    'testing/index.d.ts',
    'index.cjs',
    'index.d.cts',
    'testing/index.cjs',
    'testing/index.d.cts',
    'docs/index.html',
    'dashboard/index.html',
    'dashboard/licences.md',
  ])
    assert.ok(packed.includes(`dist/${needed}`), needed)
})

test('it installs with its few dependencies', () => {
  const installed = JSON.parse(npm(project, 'ls', '--all', '--json')) as {
    dependencies: { gopherqueue: { version: string; dependencies: Record<string, { version?: string }> } }
  }
  const { gopherqueue } = installed.dependencies
  assert.equal(gopherqueue.version, version)
  const there = Object.entries(gopherqueue.dependencies).filter(([, { version }]) => version !== undefined) // pg is an optional peer
  assert.deepEqual(there.map(([name]) => name).sort(), [
    '@standard-schema/spec',
    'commander',
    'croner',
    'prom-client',
    'typebox',
  ])
})

test('a plain JavaScript module opens a file, defines, submits, works and waits', () => {
  const { status, stdout, stderr } = run(`
    import { GopherQueue } from 'gopherqueue'
    await using queue = await GopherQueue.open('./jobs.db')
    const greet = queue.define('greet', { maxAttempts: 3 }, ({ payload }) => 'hello ' + payload.name)
    const { id } = await greet.submit({ name: 'gopher' })
    queue.work()
    console.log(await greet.wait(id))`)
  assert.deepEqual([status, stdout, stderr], [0, 'hello gopher\n', ''])
})

test('a handler in a module of its own runs in a thread', () => {
  const handler = `import { isMainThread } from 'node:worker_threads'
    import { PermanentError } from 'gopherqueue'
    export default ({ payload }) => {
      if (payload.name === 'nobody') throw new PermanentError('nobody is there')
      return ['hello ' + payload.name, isMainThread]
    }`
  writeFileSync(join(project, 'greet.mjs'), handler)
  const { status, stdout, stderr } = run(`
    import { GopherQueue } from 'gopherqueue'
    await using queue = await GopherQueue.open(':memory:')
    const greet = queue.define('greet', {}, new URL('./greet.mjs', import.meta.url))
    const [{ id }, nobody] = await greet.submitMany([{ name: 'gopher' }, { name: 'nobody' }])
    queue.work()
    console.log(await greet.wait(id))
    await greet.wait(nobody.id).catch((error) => console.log(error.message))`)
  const expected =
    "[ 'hello gopher', false ]\nJob 2 ended dead (permanent): nobody is there. An operator can retry it.\n"
  assert.deepEqual([status, stdout, stderr], [0, expected, ''])
})

test('its testing kit works a week of retries off, in plain JavaScript', () => {
  const { status, stdout, stderr } = run(`
    import { fail, testQueue } from 'gopherqueue/testing'
    await using queue = testQueue()
    const charge = queue.define('charge', { backoff: { kind: 'constant', delay: '1d' } }, fail(6, 'busy', () => 'charged'))
    const { id } = await charge.submit({ order: 17 })
    await queue.advance('7d')
    console.log((await queue.job(id)).result, (await queue.history(id)).length)`)
  assert.deepEqual([status, stdout, stderr], [0, 'charged 7\n', ''])
})

test('its declarations hold for a strict TypeScript project that checks libraries too', () => {
  writeFileSync(
    join(project, 'app.ts'),
    `import { GopherQueue, type Job, PermanentError } from 'gopherqueue'
    import { slow, testQueue } from 'gopherqueue/testing'
    await using queue = await GopherQueue.open('./typed.db')
    const double = queue.define<number, number>('double', { timeout: '30s' }, async ({ payload }, { signal }) => {
      signal.throwIfAborted()
      if (payload < 0) throw new PermanentError('negative')
      return payload * 2
    })
    const { id } = await double.submit(21, { priority: 'high', delay: '5m' })
    const job: Job | null = await queue.job(id)
    const result: number = await double.wait(id)
    queue.on('dead', (job, error, fate) => console.log(job.id, error.message, fate.reason))
    console.log(job?.state, result)
    // @ts-expect-error: not a number
    await double.submit('21')
    // @ts-expect-error: no such option
    await double.submit(21, { color: 'red' })
    const spare: GopherQueue = testQueue({ now: new Date() })
    const later = spare.define<number, number>('later', {}, slow('10s', ({ payload }) => payload * 2))
    // @ts-expect-error: not what the handler gives
    const text: string = await later.wait(1)
    console.log(text)\n`,
  )
  const options = { target: 'es2024', lib: ['es2024', 'esnext.disposable'], module: 'nodenext', types: ['node'] }
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: { ...options, strict: true, skipLibCheck: false, noEmit: true },
      files: ['app.ts'],
    }),
  )
  mkdirSync(join(project, 'node_modules/@types'), { recursive: true })
  for (const name of ['@types/node', 'undici-types'])
    cpSync(join(root, 'node_modules', name), join(project, 'node_modules', name), { recursive: true })
  const tsc = join(root, 'node_modules/.bin/tsc')
  const { status, stdout } = spawnSync(tsc, ['-p', '.'], { cwd: project, encoding: 'utf8' })
  assert.deepEqual([status, stdout], [0, ''])
})

test('the binaries run under both names', () => {
  for (const name of ['gopherqueue', 'gq']) {
    const bin = join(project, 'node_modules/.bin', name)
    const { status, stdout, stderr } = spawnSync(process.execPath, [bin, 'version'], { encoding: 'utf8' })
    assert.deepEqual([status, stderr], [0, ''])
    assert.ok(stdout.includes(version), stdout)
    assert.match(readFileSync(bin, 'utf8'), /^#!\/usr\/bin\/env node\n/)
  }
})

test('nothing but the front door, the testing kit and package.json can be imported', () => {
  const { stdout } = run(`
    for (const path of ['', '/testing', '/package.json', '/dist/index.js', '/dist/store/sqlite/store.js', '/src/index.ts'])
      await import('gopherqueue' + path, path.endsWith('.json') ? { with: { type: 'json' } } : {}).then(
        () => console.log(path, 'ok'), (error) => console.log(path, error.code))`)
  assert.deepEqual(stdout.trimEnd().split('\n'), [
    ' ok',
    '/testing ok',
    '/package.json ok',
    '/dist/index.js ERR_PACKAGE_PATH_NOT_EXPORTED',
    '/dist/store/sqlite/store.js ERR_PACKAGE_PATH_NOT_EXPORTED',
    '/src/index.ts ERR_PACKAGE_PATH_NOT_EXPORTED',
  ])
})
