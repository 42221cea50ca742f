import { copyFile, mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Photos from real cameras, as two packages ship them for their tests.
const photos = [
  import.meta.resolve('jpeg-exif/test/IMG_0001.JPG'),
  import.meta.resolve('jpeg-exif/test/IMG_0003.JPG'),
  import.meta.resolve('exif-parser/test/starfish.jpg'),
].map((url) => fileURLToPath(url))

/** Puts some photos into a folder, creating it. */
export async function collect(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const photo of photos) await copyFile(photo, join(folder, basename(photo)))
}
