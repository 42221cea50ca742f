import { once } from 'node:events'
import { GopherQueue } from '../../src/index.ts'

// Opens the file, says so, and submits one job with a unique key as soon as it hears a line.

const { file } = JSON.parse(process.argv[2]!) as { file: string }
const queue = await GopherQueue.open(file)
process.stdout.write('open\n')
await once(process.stdin, 'data')
const { id, duplicate } = await queue.submit('rebuild', process.pid, { uniqueKey: 'index' })
process.stdout.write(`${JSON.stringify({ id, duplicate })}\n`)
await queue.close()
process.stdin.destroy()
