import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { GopherQueue, GopherQueueError } from 'gopherqueue'
import { collect } from './photos.ts'
import { type Thumbnail, thumbnails } from './thumbnails.ts'

// Submits every image in ./photos as one bulk, works on two at a time, and waits for the results. Cut off and started
// again, it goes on where it was: the keys know which images have their job already.

if (!existsSync('./photos')) await collect('./photos')
const images = (await readdir('./photos')).sort().map((name) => join('photos', name))

await using queue = await GopherQueue.open('./images.db')
const thumbnail = thumbnails(queue, './thumbnails')
const jobs = await thumbnail.submitMany(
  images.map((image) => ({ image })),
  ({ image }) => ({ idempotencyKey: image, idempotencyWindow: '30d' }),
)
console.log(`${jobs.length} images, ${jobs.filter(({ duplicate }) => duplicate).length} of them submitted before`)

queue.work({ concurrency: 2 })
const results = await Promise.all(jobs.map(({ id }) => thumbnail.wait(id).catch(told)))
for (const [i, result] of results.entries()) console.log(`${images[i]}: ${describe(result)}`)

/** A job that failed is a line of the report; anything else is not expected here. */
function told(error: unknown): string {
  if (error instanceof GopherQueueError && error.code === 'JOB_FAILED') return error.message
  throw error
}

function describe(result: Thumbnail[] | string): string {
  if (typeof result === 'string') return result
  return result.map(({ width, height, bytes }) => `${width}x${height} (${Math.round(bytes / 1024)} KiB)`).join(', ')
}
