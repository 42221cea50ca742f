import { hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { GopherQueue } from '../src/index.ts'

// Works on eight jobs at once until it is told to stop, or killed.

/** What a job comes to. */
export interface Digest {
  sha256: string
  gzipBytes: number
}

const compress = promisify(gzip)
const queue = await GopherQueue.open(process.argv[2]!)

queue.define<{ path: string }, Digest>('digest', {}, async ({ payload }) => {
  const bytes = await readFile(payload.path)
  return { sha256: hash('sha256', bytes, 'hex'), gzipBytes: (await compress(bytes)).length }
})
queue.work({ concurrency: 8 })

process.once('SIGTERM', async () => {
  await queue.close() // lets running jobs finish
  process.exit()
})
process.once('disconnect', () => process.exit()) // run.ts is gone
