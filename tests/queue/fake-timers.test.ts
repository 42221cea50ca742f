import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import FakeTimers from '@sinonjs/fake-timers'
import { GopherQueue } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'

// The timers that sinon fakes are those of jest and vitest, which use this package. An app's tests install them around a queue
// on a real file: it goes on in real time.

const { setTimeout: real } = globalThis

/** Submits and works a job that is repeated, and hears of it. */
async function works(queue: GopherQueue): Promise<void> {
  const heard = new Promise((resolve) => queue.once('retrying', resolve))
  const { id } = await queue.submit('t', null)
  assert.equal(await queue.wait(id, { timeout: '30s' }), 2)
  await heard // listeners are called in a tick of their own
  const { createdAt } = (await queue.job(id))!
  assert.ok(createdAt > Date.UTC(2024, 0), 'at an instant of the real clock')
}

function define(queue: GopherQueue): void {
  queue.define('t', { backoff: { kind: 'constant', delay: 1 }, timeout: '20s' }, ({ attempt }) => {
    if (attempt === 1) throw new Error('once more')
    return attempt
  })
  queue.work()
}

test('a queue works under fake timers, made before or under them, and after them', async () => {
  using folder = temporaryFolder()
  const before = await GopherQueue.open(folder.file('before.db'))
  define(before)
  const fakes = FakeTimers.install({ now: 0 }) // all that it can fake, nextTick and queueMicrotask too
  try {
    assert.notEqual(globalThis.setTimeout, real)
    await works(before)
    const under = await GopherQueue.open(folder.file('under.db'))
    define(under)
    await works(under)
    await assert.rejects(under.wait((await under.submit('none', null)).id, { timeout: 1 }), { code: 'WAIT_TIMEOUT' })
    await under.close()
  } finally {
    fakes.uninstall()
  }
  await works(before)
  await before.close()
})

const installed = {
  sinon: `(await import('@sinonjs/fake-timers')).default.install()`,
  'node:test': `(await import('node:test')).mock.timers.enable({ apis: ['setTimeout', 'setImmediate', 'Date'] })`,
}
for (const [whose, install] of Object.entries(installed))
  test(`fake timers of ${whose} that were there before the library are refused, and not waited for`, () => {
    const program = `${install}
      const { GopherQueue } = await import('./src/index.ts'), { testQueue } = await import('./src/testing/index.ts')
      for (const open of [() => GopherQueue.open(':memory:'), async () => testQueue()])
        await open().then(() => console.log('opened'), ({ code, message }) => console.log(code, message))
      process.exit()`
    const cwd = join(import.meta.dirname, '../..')
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { cwd, encoding: 'utf8' })
    assert.match(stdout, /^(INVALID_STATE .* fake timers .* Import gopherqueue first, .*\n){2}$/)
  })

test('one file alone takes timers and clocks from the runtime', () => {
  const root = join(import.meta.dirname, '../../src')
  const taken =
    /\b(set(Timeout|Interval|Immediate)|clear(Timeout|Interval|Immediate)|queueMicrotask|process\.(nextTick|hrtime)|performance\.now|Date\.now)\(|new Date\(\)/
  for (const file of globSync('**/*.ts', { cwd: root }))
    if (file !== 'model/clock.ts')
      assert.doesNotMatch(readFileSync(join(root, file), 'utf8').replace(/^ *(\/\/|\*|\/\*\*).*$/gm, ''), taken, file)
})
