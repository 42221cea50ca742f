import assert from 'node:assert/strict'
import { test } from 'node:test'
import { main } from '../../src/cli/program.ts'
import { GopherQueueError } from '../../src/model/errors.ts'
import { GopherQueue } from '../../src/queue/gopherqueue.ts'

test('a command that fails, and then fails to close its queue, shows both errors, and one that is both once', async (t) => {
  const [argv, exitCode] = [process.argv, process.exitCode]
  t.after(() => {
    process.argv = argv
    process.exitCode = exitCode
  })
  process.argv = ['node', 'gopherqueue', 'pause', '--create', '--url', 'http://localhost']
  const away = new GopherQueueError('STORAGE_UNAVAILABLE', 'The lock is held.')
  const other = new GopherQueueError('STORAGE_FULL', 'The disk is full.')
  const plain = Object.assign(new Error('No more files.'), { code: 'EMFILE' })
  for (const [failure, closing, shown] of [
    [away, away, ['gopherqueue: STORAGE_UNAVAILABLE: The lock is held.\n']],
    [
      away,
      new SuppressedError(plain, other),
      [
        'gopherqueue: STORAGE_UNAVAILABLE: The lock is held.\n',
        'gopherqueue: STORAGE_FULL: The disk is full.\n',
        'gopherqueue: EMFILE: No more files.\n',
      ],
    ],
  ] as const) {
    const fail = (error: Error) => () => Promise.reject(error)
    const queue = { pause: fail(failure), [Symbol.asyncDispose]: fail(closing) } as unknown as GopherQueue
    const opened = t.mock.method(GopherQueue, 'open', async () => queue)
    const written = t.mock.method(process.stderr, 'write', () => true)
    await main()
    const lines = written.mock.calls.map(({ arguments: [line] }) => line)
    for (const { mock } of [opened, written]) mock.restore()
    assert.deepEqual([lines, process.exitCode], [shown, 1])
  }
})
