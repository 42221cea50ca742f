import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { GopherQueue, GopherQueueError } from 'gopherqueue'
import { collect } from './photos.ts'
import { thumbnails } from './thumbnails.ts'

// Submits the images in ./photos as a bulk for each thing to make of them, works on two jobs at a time, and waits for the
// results. Cut off and started again, it goes on where it was: the keys know which images have their jobs already.

if (!existsSync('./photos')) await collect('./photos')
const images = (await readdir('./photos')).sort().map((name) => ({ image: join('photos', name) }))

await using queue = await GopherQueue.open('./images.db')
const sizes = thumbnails(queue, './thumbnails')
const computed = { queue: 'images', timeout: '1m', maxAttempts: 5 } as const
const colours = queue.define<{ image: string }, string[]>('colours', computed, new URL('./palette.ts', import.meta.url))

const once = ({ image }: { image: string }) => ({ idempotencyKey: image, idempotencyWindow: '30d' }) as const
const sized = await sizes.submitMany(images, once)
const coloured = await colours.submitMany(images, once)
const before = sized.filter(({ duplicate }) => duplicate).length
console.log(`${images.length} images, ${before} of them submitted before`)

queue.work({ concurrency: 2 })
for (const [i, { image }] of images.entries()) {
  const made = await sizes.wait(sized[i]!.id).catch((error) => told(image, error))
  const palette = await colours.wait(coloured[i]!.id).catch((error) => told(image, error))
  const each = made?.map(({ width, height, bytes }) => `${width}x${height} (${Math.round(bytes / 1024)} KiB)`)
  if (each && palette) console.log(`${image}: ${each.join(', ')}; ${palette.join(' ')}`)
}

/** A job that failed is a line of the report; anything else is not expected here. */
function told(image: string, error: unknown): undefined {
  if (!(error instanceof GopherQueueError && error.code === 'JOB_FAILED')) throw error
  console.log(`${image}: ${error.message}`)
}
