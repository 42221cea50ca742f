import { setTimeout } from 'node:timers/promises'
import { GopherQueue } from '../../src/index.ts'

// Works on a queue, each job for as long as its payload says; tells of each that it starts.

const queue = await GopherQueue.open(process.argv[2]!)
queue.define<number>('work', async ({ id, payload }, { signal }) => {
  process.stdout.write(`${id}\n`)
  await setTimeout(payload, null, { signal })
})
queue.work({ concurrency: 4 })
process.stdout.write('ready\n')
