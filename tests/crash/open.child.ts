import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { GopherQueue } from '../../src/index.ts'
import { nanoseconds } from './journal.ts'

// Opens files when told to, at an instant of the monotonic clock: `open NAME AT`. Says what came of each.

export interface OpenConfig {
  folder: string
}

const { folder } = JSON.parse(process.argv[2]!) as OpenConfig
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  const [, name, at] = line.split(' ') as [string, string, string]
  while (nanoseconds() < BigInt(at)); // spins: a timer's millisecond is too coarse
  try {
    const queue = await GopherQueue.open(join(folder, name))
    const { id } = await queue.submit('first', { of: process.pid })
    await queue.close()
    console.log(`stored ${id}`)
  } catch (error) {
    console.log(`failed ${String(error).replaceAll('\n', ' ')}`)
  }
}
