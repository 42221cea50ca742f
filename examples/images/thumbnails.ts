import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join, parse } from 'node:path'
import type { GopherQueue } from 'gopherqueue'
import sharp from 'sharp'
import { z } from 'zod'
import { made, original } from './original.ts'

// A job for each image, which makes it in several sizes. One that is cut off goes on with the sizes that are missing.
// sharp computes in threads of its own, so that this handler does not block the app.

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
      const done = (earlier ?? []) as Thumbnail[]
      const bytes = await original(image)
      await mkdir(folder, { recursive: true })
      for (const width of widths.slice(done.length)) {
        signal.throwIfAborted() // timed out, cancelled, or the app stops
        progress((100 * done.length) / widths.length, `${width} px`)
        const upright = sharp(bytes).autoOrient() // as the camera was held
        const small = upright.resize({ width, height: width, fit: 'inside', withoutEnlargement: true })
        const { data, info } = await made(small.webp().toBuffer({ resolveWithObject: true }))
        const file = join(folder, `${parse(image).name}-${width}.webp`)
        await writeFile(`${file}.part`, data)
        await rename(`${file}.part`, file) // whole or not there, however often it is made
        done.push({ file, width: info.width, height: info.height, bytes: info.size })
        await checkpoint(done)
      }
      return done
    },
  )
}
