import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'

import { isAudited, type Operation, operations } from '../../src/store/operations.ts'
import { nothing, row } from '../../src/store/row.ts'
import { Engine } from '../../src/store/sqlite/commit.ts'
import type { Fate, Lease } from '../../src/store/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'

// Each @ts-expect-error line fails the check if it does compile.

test('a row that leaves something out does not compile', () => {
  const at = 'POST /v1/x'
  const said = { scope: 'work', patience: 'once', summary: 'X', response: nothing } as const
  row<Lease, Fate>()({ kind: 'outcome', ends: (lease) => lease, at, ...said })
  // @ts-expect-error an outcome whose lease nobody ends
  row<Lease, Fate>()({ kind: 'outcome', ends: null, at, ...said })
  // @ts-expect-error a write that ends a lease, and is not held during a fault
  row<Lease, Fate>()({ kind: 'write', ends: (lease) => lease, at, ...said })
  // @ts-expect-error no word of leases
  row<Lease, Fate>()({ kind: 'write', at, ...said })
  // @ts-expect-error no kind
  row<Lease, Fate>()({ ends: null, at, ...said })
  const { scope: _, ...noScope } = said
  // @ts-expect-error a call that any token may make
  row<Lease, Fate>()({ kind: 'write', ends: null, at, ...noScope })
  const { patience: __, ...noPatience } = said
  // @ts-expect-error a call that may be sent again or not
  row<Lease, Fate>()({ kind: 'write', ends: null, at, ...noPatience })
})

test('what an operator changes is audited, and nothing else', () => {
  assert.deepEqual((Object.keys(operations) as Operation[]).filter(isAudited), [
    ...['many', 'cancel', 'retry', 'runNow', 'remove'],
    ...['setQueue', 'setSchedule', 'pauseSchedule', 'removeSchedule', 'runSchedule'],
  ])
})

test('a token or worker id of another file is refused as what it is', () => {
  const engine = new Engine(':memory:', new VirtualClock())
  const lease = { id: 1, token: 1, queue: 'q', type: 't' }
  const ask = (operation: Operation, input: unknown) => {
    const [reply] = engine.execute([{ seq: 1, operation, input: input as Lease, epoch: '0'.repeat(16) }])
    return (reply as { error: { code: string } }).error.code
  }
  for (const worker of ['unregister', 'stopping'] as const) assert.equal(ask(worker, 1), 'WORKER_UNKNOWN', worker)
  for (const report of ['release', 'settled', 'heartbeat'] as const)
    assert.equal(ask(report, lease), 'LEASE_LOST', report)
  engine.close()
})

test('neither the client nor the engine loads the library of schemas', () => {
  for (const file of ['http/store.ts', 'sqlite/commit.ts']) {
    const url = JSON.stringify(new URL(`../../src/store/${file}`, import.meta.url))
    const script = `import { registerHooks } from 'node:module'
      const resolve = (name, context, next) => {
        if (name.startsWith('typebox')) throw new Error(name)
        return next(name, context)
      }
      registerHooks({ resolve })
      await import(${url})`
    execFileSync(process.execPath, ['--input-type=module', '-e', script])
  }
})
