import { writeSync } from 'node:fs'
import { GopherQueue } from '../../src/index.ts'

// Says on standard output, by one write each, what the queue has just promised: for a trace of its system calls.

export interface SyncedConfig {
  file: string
  jobs: number
  work: boolean
}

const { file, jobs, work } = JSON.parse(process.argv[2]!) as SyncedConfig
const say = (promise: string, id: number) => writeSync(1, `${promise} ${id}\n`)
const queue = await GopherQueue.open(file)
if (work) {
  let left = jobs
  const { promise: allDone, resolve } = Promise.withResolvers<void>()
  queue.define('traced', {}, ({ id }) => void say('START', id))
  queue.on('succeeded', ({ id }) => {
    say('DONE', id)
    if (--left === 0) resolve()
  })
  queue.work({ concurrency: 1 })
  await allDone
} else
  for (let i = 0; i < jobs; i++) {
    const { id } = await queue.submit('traced', { i })
    say('ACK', id)
  }
await queue.close()
