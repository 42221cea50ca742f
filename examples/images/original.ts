import { readFile } from 'node:fs/promises'
import { PermanentError } from 'gopherqueue'

// What will be the same next time is a dead letter at once; a disk that is full or slow is tried again.

/** An image file's bytes. */
export async function original(image: string): Promise<Buffer> {
  return readFile(image).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new PermanentError(error.message, { cause: error }) : error
  })
}

/** What sharp makes of an image. */
export async function made<T>(result: Promise<T>): Promise<T> {
  return result.catch((cause: Error) => {
    throw new PermanentError(`no image that can be read: ${cause.message}`, { cause })
  })
}
