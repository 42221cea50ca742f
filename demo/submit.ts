import { once } from 'node:events'
import { GopherQueue } from '../src/index.ts'

// Submits one job for each file. Killed and started again, it simply begins anew: the idempotency key lets the queue
// recognise every job that it has already.

const queue = await GopherQueue.open(process.argv[2]!)
const digest = queue.define<{ path: string }>('digest', { maxAttempts: 5, backoff: { kind: 'constant', delay: '1s' } })

process.once('disconnect', () => process.exit()) // run.ts is gone
const [files] = (await once(process, 'message')) as [string[]]
const chunkSize = Math.ceil(files.length / 20)

for (let at = 0; at < files.length; at += chunkSize) {
  const chunk = files.slice(at, at + chunkSize).map((path) => ({ path }))
  const stored = await digest.submitMany(chunk, ({ path }) => ({ idempotencyKey: path })) // on disk from here on
  const duplicates = stored.filter(({ duplicate }) => duplicate).length
  process.send?.({ stored: at + stored.length, duplicates })
  await once(process, 'message') // run.ts says when to go on, so that its kills find work left to do
}
process.exit()
