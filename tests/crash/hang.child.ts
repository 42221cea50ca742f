import { existsSync } from 'node:fs'
import { GopherQueue } from '../../src/index.ts'
import { Journal } from './journal.ts'

// A worker whose thread stands still in a handler, until a file is there.

export interface HangConfig {
  file: string
  log: string
  release: string
}
const { file, log, release } = JSON.parse(process.argv[2]!) as HangConfig
const journal = new Journal(log)
const queue = await GopherQueue.open(file)
queue.define('hang', {}, () => {
  journal.write('hangs')
  while (!existsSync(release)); // nothing else runs in this thread
})
queue.define('quick', {}, ({ id }) => journal.write('start', id))
queue.work({ concurrency: 5 })
process.stdin.once('end', () => void queue.close()).resume()
