import assert from 'node:assert/strict'
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

test('one file alone takes timers and clocks from the runtime', () => {
  const root = join(import.meta.dirname, '../../src')
  const taken =
    /\b(set(Timeout|Interval|Immediate)|clear(Timeout|Interval|Immediate)|queueMicrotask|process\.(nextTick|hrtime)|performance\.now|Date\.now)\(|new Date\(\)/
  for (const file of globSync('**/*.ts', { cwd: root }))
    if (file !== 'model/clock.ts')
      assert.doesNotMatch(readFileSync(join(root, file), 'utf8').replace(/^ *(\/\/|\*|\/\*\*).*$/gm, ''), taken, file)
})
