// GopherQueue as one more system of the peers' benchmark harness, and of our own: the built package, as users get it.
import { join } from 'node:path'
import { GopherQueue } from '../dist/index.js'

export default async function open({ dir, system, ...options }) {
  const queue = await GopherQueue.open(join(dir, 'jobs.db'), options)
  let handle = () => undefined
  const task = queue.define('bench', {}, (job) => handle(job.payload))
  return {
    durability: 'fsync before ack; attempt on disk before its handler',
    acknowledges: true,
    submit: (payload) => task.submit(payload),
    submitMany: (payloads) => task.submitMany(payloads),
    async work(handler, concurrency, onDone) {
      handle = handler
      if (onDone) queue.on('succeeded', () => onDone()) // told when the success is on disk
      const worker = queue.work({ concurrency })
      return { stop: () => worker.stop() }
    },
    close: () => queue.close(),
  }
}
