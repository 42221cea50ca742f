import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { GopherQueue } from '../../src/index.ts'
import { packedProject } from '../support/packed.ts'
import { workingApp } from './apps.ts'

// What docs/deploy.md says of Bun, Deno and PM2, with the packed package.

const { folder, project } = packedProject('module', 'bun@1.4.5', 'deno@2.9.6', 'pm2@7.0.4')
after(() => folder[Symbol.dispose]())
const bin = (name: string) => join(project, 'node_modules', name)

writeFileSync(join(project, 'app.js'), workingApp('esm'))
writeFileSync(
  join(project, 'worker.js'),
  `import { GopherQueue } from 'gopherqueue'
  const queue = await GopherQueue.open(process.argv[2] ?? 'pm2.db')
  queue.define('hang', {}, (_, { signal }) => new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason))
  }))
  queue.work({ stopOn: ['SIGTERM', 'SIGINT'] })`,
)
const runtimes = { Bun: [bin('bun/bin/bun.exe')], Deno: [bin('.bin/deno'), 'run', '-A'] }

/** Resolves when the job has that state, and has been tried that often. */
async function until(queue: GopherQueue, id: number, state: string, attempt: number) {
  for (;;) {
    const job = (await queue.job(id))!
    if (job.state === state && job.attempt === attempt) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

for (const [name, [command, ...args]] of Object.entries(runtimes))
  test(`${name}: submits and works; a job of its killed process is taken back, one of a stopped process uncharged`, async (t) => {
    assert.equal(execFileSync(command!, [...args, 'app.js'], { cwd: project, encoding: 'utf8' }), 'hello gopher\n')
    const file = folder.file(`${name}.db`)
    await using queue = await GopherQueue.open(file)
    const { id } = await queue.submit('hang', null)
    const start = (): ChildProcess => {
      const child = spawn(command!, [...args, 'worker.js', file], { cwd: project, stdio: 'inherit' })
      t.after(() => child.kill('SIGKILL'))
      return child
    }
    const killed = start()
    await until(queue, id, 'running', 1)
    killed.kill('SIGKILL')
    await once(killed, 'exit')
    const stopped = start()
    await until(queue, id, 'running', 2) // charged: it ran alone when its process died
    stopped.kill('SIGTERM')
    assert.deepEqual(await once(stopped, 'exit'), [0, null])
    await until(queue, id, 'ready', 1)
  })

test('Deno without the right to read /proc is refused, and says what to write', () => {
  const less = ['run', '--no-prompt', '--allow-sys', '--allow-read', '--allow-write', '--allow-env', 'app.js']
  const printed = execFileSync(bin('.bin/deno'), less, { cwd: project, encoding: 'utf8' })
  assert.match(
    printed,
    /^GopherQueueError STORAGE_UNAVAILABLE Deno .* Nothing was opened\. Start it with deno run -A\.\n$/,
  )
})

test('PM2: a worker that it stops gives its job back, uncharged, and one that it restarts goes on', async (t) => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/deploy.md'), 'utf8')
  const [, block] = /```js\n(\/\/ ecosystem\.config\.cjs[\s\S]*?)```/.exec(page)!
  writeFileSync(join(project, 'ecosystem.config.cjs'), block!.replace('worker.ts', 'worker.js'))
  const env = { ...process.env, PM2_HOME: folder.file('pm2') }
  const pm2 = (...args: string[]) => execFileSync(process.execPath, [bin('pm2/bin/pm2'), ...args], { cwd: project, env, encoding: 'utf8' }) // biome-ignore format: one line
  t.after(() => pm2('kill'))
  await using queue = await GopherQueue.open(join(project, 'pm2.db'))
  const { id } = await queue.submit('hang', null)
  pm2('start', 'ecosystem.config.cjs')
  await until(queue, id, 'running', 1)
  pm2('stop', 'worker')
  await until(queue, id, 'ready', 0)
  pm2('restart', 'worker')
  await until(queue, id, 'running', 1)
})
