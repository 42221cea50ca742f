import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join, parse } from 'node:path'
import { type GopherQueue, PermanentError } from 'gopherqueue'
import sharp from 'sharp'
import { z } from 'zod'

// An image pipeline: a job for each image, which makes it in several sizes. A job that is cut off goes on with the sizes
// that are missing. sharp computes in threads of its own, so handlers do not block the app.

const widths = [1600, 640, 160]

export interface Thumbnail {
  file: string
  width: number
  height: number
  bytes: number
}

/** The job; thumbnails go to `folder` as WebP. */
export function thumbnails(queue: GopherQueue, folder: string) {
  return queue.define(
    'thumbnails',
    { payload: z.object({ image: z.string() }), queue: 'images', priority: 'bulk', timeout: '5m', maxAttempts: 5 },
    async ({ payload: { image }, checkpoint: earlier }, { signal, progress, checkpoint }) => {
      const made = (earlier ?? []) as Thumbnail[]
      const original = await readFile(image).catch(permanentIfMissing)
      await mkdir(folder, { recursive: true })
      for (const width of widths.slice(made.length)) {
        signal.throwIfAborted() // timed out, cancelled, or the app stops
        progress((100 * made.length) / widths.length, `${width} px`)
        const { data, info } = await resize(original, width)
        const file = join(folder, `${parse(image).name}-${width}.webp`)
        await writeFile(`${file}.part`, data) // a full disk is temporary: this attempt fails, a later one goes on here
        await rename(`${file}.part`, file) // whole or not there, however often it is made
        made.push({ file, width: info.width, height: info.height, bytes: info.size })
        await checkpoint(made)
      }
      return made
    },
  )
}

function permanentIfMissing(error: NodeJS.ErrnoException): never {
  throw error.code === 'ENOENT' ? new PermanentError(error.message, { cause: error }) : error
}

/** As WebP of at most this width and height, turned as the camera was held. What is no image now will be none later. */
async function resize(image: Buffer, width: number) {
  try {
    return await sharp(image)
      .autoOrient()
      .resize({ width, height: width, fit: 'inside', withoutEnlargement: true })
      .webp()
      .toBuffer({ resolveWithObject: true })
  } catch (cause) {
    throw new PermanentError(`no image that can be read: ${(cause as Error).message}`, { cause })
  }
}
