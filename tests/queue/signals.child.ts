import { existsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { GopherQueue } from '../../src/index.ts'

// A worker whose process would go on for ever, and that stops at a signal.

export interface SignalsConfig {
  folder: string
  /** How long handlers may go on. */
  grace?: '1ms' | '6s'
  /** Listens to SIGTERM itself: then it says when it ends, some ms later or in that very turn. */
  own?: 'soon' | 'at once'
}
const { folder, grace, own } = JSON.parse(process.argv[2]!) as SignalsConfig
const queue = await GopherQueue.open(`${folder}/jobs.db`)
queue.define<string>('t', async ({ payload }, { signal }) => {
  writeFileSync(`${folder}/started`, '')
  while (!existsSync(`${folder}/go`) && !(payload === 'heeds' && signal.aborted)) await new Promise(setImmediate)
  signal.throwIfAborted()
  return 'done'
})
const exit = () => process.exit(7)
if (own) process.once('SIGTERM', () => (own === 'soon' ? setTimeout(exit, 100) : exit()))
createServer().listen(0)
queue.work({ stopOn: ['SIGTERM', 'SIGINT'], ...(grace && { grace }) })
console.log('works')
