import type { ActiveJob, Context } from 'gopherqueue'
import sharp from 'sharp'
import { made, original } from './original.ts'

// The five colours that stand for an image, most frequent first: k-means over its pixels. It computes without a pause, so
// it is a module of its own, which `define` takes by its URL and runs in a thread.

const colours = 5
const rounds = 12

interface Cluster {
  mean: [red: number, green: number, blue: number]
  pixels: number
}

export default async function palette(
  { payload: { image } }: ActiveJob<{ image: string }>,
  { progress, signal }: Context,
): Promise<string[]> {
  const small = sharp(await original(image)).resize({ width: 256, height: 256, fit: 'inside' })
  const bytes = await made(small.removeAlpha().toColourspace('srgb').raw().toBuffer())
  let clusters = Array.from({ length: colours }, (_, i) => ({ mean: rgb(bytes, part(bytes, i)), pixels: 0 }))
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    progress((100 * round) / rounds)
    clusters = clustered(bytes, clusters)
  }
  return clusters.sort((a, b) => b.pixels - a.pixels).map(({ mean }) => hex(mean))
}

/** Gives each pixel to the cluster whose mean is nearest, and each cluster the mean of its pixels. */
function clustered(bytes: Buffer, clusters: Cluster[]): Cluster[] {
  const sums = clusters.map((): Cluster => ({ mean: [0, 0, 0], pixels: 0 }))
  for (let at = 0; at < bytes.length; at += 3) {
    const [red, green, blue] = rgb(bytes, at)
    let nearest = 0
    let least = Number.POSITIVE_INFINITY
    for (const [i, { mean }] of clusters.entries()) {
      const distance = (red - mean[0]) ** 2 + (green - mean[1]) ** 2 + (blue - mean[2]) ** 2
      if (distance < least) [nearest, least] = [i, distance]
    }
    const { mean } = sums[nearest]!
    sums[nearest] = { mean: [mean[0] + red, mean[1] + green, mean[2] + blue], pixels: sums[nearest]!.pixels + 1 }
  }
  return sums.map(({ mean: [red, green, blue], pixels }, i) =>
    pixels === 0
      ? { mean: clusters[i]!.mean, pixels }
      : { mean: [red / pixels, green / pixels, blue / pixels], pixels },
  )
}

function part(bytes: Buffer, i: number): number {
  return 3 * Math.floor((i * bytes.length) / colours / 3)
}

function rgb(bytes: Buffer, at: number): Cluster['mean'] {
  return [bytes[at]!, bytes[at + 1]!, bytes[at + 2]!]
}

function hex(mean: Cluster['mean']): string {
  return `#${mean.map((part) => Math.round(part).toString(16).padStart(2, '0')).join('')}`
}
