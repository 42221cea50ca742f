import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import type { GopherQueueError } from '../../src/index.ts'
import { Bench } from './support.ts'

const failed = (code: string) => (error: GopherQueueError) => error.code === code

// Beside each other, because one of them has to wait for the 5 s after which a command is killed.
describe('work', { concurrency: 3 }, () => {
  test('a command that ignores SIGTERM is killed after 5 s, and its job goes back', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const worker = bench.start('work', 'job', '--exec', 'trap "" TERM; echo > started; while :; do sleep 0.02; done')
    const { id } = await queue.submit('job', 1)
    await bench.appears('started')
    worker.child.kill('SIGTERM')
    await worker.says(/stopping: /)
    const second = performance.now()
    await pause(1000) // what comes within a second of the first counts as the same signal
    worker.child.kill('SIGTERM')
    assert.equal((await worker.ended).code, 0)
    const took = performance.now() - second
    assert.ok(took > 4900, `${took} ms`)
    assert.deepEqual(bench.processes(), [])
    assert.deepEqual((await queue.job(id))!.attemptsLeft, 12)
  })

  test('a command does not outlive a worker that is killed, nor what it has started', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const command = `trap '' TERM; sleep 1000 & echo > started; sleep 1000; echo never`
    const worker = bench.start('work', 'job', '--exec', command)
    await queue.submit('job', 1)
    await bench.appears('started')
    worker.child.kill('SIGKILL')
    await worker.ended
    while (bench.processes().length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  })

  test('a command gets its payload and its variables; stdout is the result', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const command =
      'read -r payload; printf \'{"got":%s,"env":"%s"}\' "$payload" "$GOPHERQUEUE_TYPE $GOPHERQUEUE_JOB_ID $GOPHERQUEUE_ATTEMPT"'
    const echo = bench.start('work', 'echo', '--exec', command)
    const { id } = await queue.submit('echo', { to: 'a', list: [1, null] })
    assert.deepEqual(await queue.wait(id), { got: { to: 'a', list: [1, null] }, env: `echo ${id} 1` })
    await echo.says(new RegExp(`Z job ${id} succeeded: attempt 1 of 12 took \\d+m?s\\n`))
    echo.child.kill('SIGTERM')
    assert.equal((await echo.ended).code, 0)

    const text = bench.start('work', 'text', '--exec', 'exec <&-; echo "two words"; echo', '--json')
    const words = await queue.submit('text', 'x'.repeat(900_000)) // more than a pipe holds, and nobody reads it
    assert.equal(await queue.wait(words.id), 'two words\n')
    const line = (await text.prints())[0]!
    assert.deepEqual(
      [line.id, line.attempt, line.outcome, typeof line.durationMs],
      [words.id, 1, 'succeeded', 'number'],
    )
    text.child.kill('SIGINT')
    assert.deepEqual([(await text.ended).code, text.stderr], [0, ''])
  })

  test('exit 65 is permanent, anything else temporary, with the end of stderr; a result that cannot be kept is a warning', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const command = `read -r payload; case $payload in
    1) echo no such customer >&2; exit 65;;
    2) head -c 100000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 3;;
    3) head -c 3000000 /dev/zero | tr '\\0' x;;
    4) kill -9 $$;;
    5) echo '{"id":9007199254740993}';;
    6) printf '\\377';;
  esac`
    bench.start('work', 'job', '--exec', command)
    const run = async (payload: number) => {
      const { id } = await queue.submit('job', payload, { maxAttempts: 2, backoff: { kind: 'constant', delay: 1 } })
      await assert.rejects(queue.wait(id), failed('JOB_FAILED'))
      return { reason: (await queue.job(id))!.reason, history: await queue.history(id) }
    }
    const permanent = await run(1)
    assert.deepEqual([permanent.reason, permanent.history.length], ['permanent', 1])
    assert.deepEqual(permanent.history[0]!.error, {
      name: 'PermanentError',
      message: 'Exit code 65: no such customer',
      stack: null,
    })
    const temporary = await run(2)
    assert.deepEqual([temporary.reason, temporary.history.length], ['exhausted', 2])
    const { name, message } = temporary.history[1]!.error!
    assert.equal(name, 'TemporaryError')
    assert.ok(/^Exit code 3: x+last words$/.test(message))
    assert.ok(message.length > 8000 && message.length <= 8192)
    for (const [payload, warning] of [
      [3, /not kept: stdout has 3000000 bytes; a result has at most 1048576\.$/],
      [5, /not kept: .* id: it is an integer beyond/],
      [6, /not kept: stdout has bytes that are not UTF-8\.$/],
    ] as const) {
      const { id } = await queue.submit('job', payload)
      assert.equal(await queue.wait(id), null)
      assert.match((await queue.job(id))!.warning!, warning)
    }
    assert.match((await run(4)).history[0]!.error!.message, /^Killed by SIGKILL/)
  })

  test('timeout and cancellation end the whole process group', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const command = 'sleep 1000 & sleep 1000; echo never'
    const worker = bench.start('work', 'job', '--exec', command, '--concurrency', '1')
    const late = await queue.submit('job', 1, { timeout: '300ms', onTimeout: 'dead' })
    await assert.rejects(queue.wait(late.id), failed('JOB_FAILED'))
    assert.equal((await queue.job(late.id))!.reason, 'timeout')
    const long = await queue.submit('job', 2) // gets the one slot only when the command before is gone
    await worker.says(new RegExp(`job ${late.id} dead: .*longer than its timeout of 300 ms`))
    while ((await queue.job(long.id))!.state !== 'running') await queue.stats()
    const [cancelled] = await Promise.all([bench.run('cancel', `${long.id}`), assert.rejects(queue.wait(long.id))])
    assert.deepEqual([cancelled.code, cancelled.stdout], [0, `${long.id}\trunning (to stop)\n`])
    assert.equal((await queue.job(long.id))!.state, 'cancelled')
    await worker.says(new RegExp(`job ${long.id} cancelled: `))
    assert.deepEqual(bench.processes(), [`${worker.child.pid}`])
  })

  test('what a command leaves behind holds up neither its job nor its worker, and goes on', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const left = 'while ! test -e go$GOPHERQUEUE_JOB_ID; do sleep 0.02; done; echo more; echo > went-on'
    const worker = bench.start('work', 'job', '--exec', `{ ${left}; } & echo ok`)
    const ids: number[] = []
    for (let n = 0; n < 2; n++) {
      const { id } = await queue.submit('job', n, { timeout: '30s', onTimeout: 'dead' })
      assert.equal(await queue.wait(id), 'ok')
      ids.push(id)
    }
    bench.write(`go${ids[0]}`)
    await bench.appears('went-on') // nobody closed what it writes to
    worker.child.kill('SIGTERM')
    assert.equal((await worker.ended).code, 0)
    assert.notDeepEqual(bench.processes(), [])
    bench.write(`go${ids[1]}`)
    while (bench.processes().length > 0) await pause(10)
  })

  test('a worker whose log nobody reads any more goes on', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const worker = bench.start('work', 'job', '--exec', 'echo fine')
    await worker.says(/takes jobs/)
    worker.child.stderr.destroy()
    for (let n = 0; n < 3; n++) assert.equal(await queue.wait((await queue.submit('job', n)).id), 'fine')
    worker.child.kill('SIGTERM')
    await worker.ended
  })

  test('a first signal lets commands end, and takes no more jobs', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const worker = bench.start(
      'work',
      'job',
      '--exec',
      'echo running >> started; while ! test -e go; do sleep 0.02; done; echo done',
      '--concurrency',
      '1',
    )
    const first = await queue.submit('job', 1)
    const second = await queue.submit('job', 2)
    await bench.appears('started')
    worker.child.kill('SIGTERM')
    await worker.says(/stopping: 1 running may go on for 30s/)
    assert.equal((await queue.job(first.id))!.state, 'running')
    bench.write('go')
    assert.equal((await worker.ended).code, 0)
    assert.equal((await queue.job(first.id))!.result, 'done')
    const { state, attempt } = (await queue.job(second.id))!
    assert.deepEqual([state, attempt], ['ready', 0])
    assert.deepEqual((await queue.stats()).workers, [])
  })

  test('a second signal, or the end of the grace, stops commands and gives their jobs back uncharged', async (t) => {
    const bench = new Bench(t)
    const queue = await bench.open()
    const command =
      'trap "echo asked to stop > stopped; exit 9" TERM; echo running > started; while :; do sleep 0.02; done'
    const { id } = await queue.submit('job', 1)
    for (const grace of ['30s', '50ms']) {
      const worker = bench.start('work', 'job', '--exec', command, '--grace', grace)
      await bench.appears('started')
      worker.child.kill('SIGINT')
      await worker.says(/stopping: /)
      if (grace === '30s') {
        await pause(1000)
        worker.child.kill('SIGTERM')
      }
      const { code, stderr } = await worker.ended
      assert.equal(code, 0)
      assert.match(stderr, new RegExp(`job ${id} released: `))
      await bench.appears('stopped')
      const { state, attempt, attemptsLeft } = (await queue.job(id))!
      assert.deepEqual([state, attempt, attemptsLeft], ['ready', 0, 12])
      assert.deepEqual(bench.processes(), [])
    }
  })
})
