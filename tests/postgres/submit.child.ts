import { GopherQueue } from '../../src/index.ts'

// Submits one job after the other, and tells the id of each that was acknowledged, until it hears that the queue has moved.

const queue = await GopherQueue.open(process.argv[2]!)
process.stdout.write('ready\n')
try {
  for (let i = 0; ; i++) {
    const { id } = await queue.submit('work', i)
    process.stdout.write(`${id}\n`)
  }
} catch (error) {
  const { code, accepted, message } = error as Error & { code: string; accepted: string }
  process.stdout.write(`${code} ${accepted} ${message}\n`)
}
await queue.close()
