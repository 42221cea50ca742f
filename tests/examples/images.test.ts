import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import sharp from 'sharp'
import { collect } from '../../examples/images/photos.ts'
import { GopherQueue } from '../../src/index.ts'
import { testQueue } from '../../src/testing/index.ts'
import { Example, folderOf } from './support.ts'
import '../../examples/from-source.ts'

const { thumbnails } = await import('../../examples/images/thumbnails.ts')

test('npm run example images: killed among its jobs and started again, each photo gets its sizes', async (t) => {
  const folder = folderOf()
  const photos = join(folder, 'photos')
  await collect(photos)
  const phone = join(photos, 'IMG_0001.JPG') // 6 megapixels, taken with the phone held upright
  for (let i = 0; i < 4; i++)
    await sharp(phone)
      .png({ compressionLevel: 1 })
      .toFile(join(photos, `scan-${i}.png`))
  writeFileSync(join(photos, 'torn.jpg'), readFileSync(phone).subarray(0, 200_000))

  const killed = new Example(t, 'images', folder)
  await killed.prints(/^8 images, 0 of them submitted before\n/)
  await using queue = await GopherQueue.open(join(folder, 'images.db'))
  const running = async () => (await queue.jobs({ state: 'running' })).jobs
  while (!(await running()).some(({ progress }) => progress && progress.percent > 0));
  assert.equal(await killed.end('SIGKILL'), 'SIGKILL')
  const cutOff = await running()
  assert.ok(cutOff.length > 0)

  const { code, output, complaints } = await new Example(t, 'images', folder).ended()
  assert.equal(code, 0, complaints)
  assert.match(output, /^8 images, 8 of them submitted before\n/)
  assert.match(
    output,
    /^photos\/torn\.jpg: Job \d+ ended dead \(permanent\): no image that can be read: .*premature end/m,
  )
  assert.equal(output.match(/^photos\/torn\.jpg: Job \d+ ended dead \(permanent\)/gm)?.length, 2)
  assert.match(
    output,
    /^photos\/starfish\.jpg: 1278x720 \(\d+ KiB\), 640x361 \(\d+ KiB\), 160x90 \(\d+ KiB\);( #[0-9a-f]{6}){5}$/m,
  )
  const made = readdirSync(join(folder, 'thumbnails'))
  assert.equal(made.length, 7 * 3)
  for (const file of made) {
    const { format, width = 0, height = 0, orientation } = await sharp(join(folder, 'thumbnails', file)).metadata()
    assert.deepEqual([format, orientation], ['webp', undefined])
    assert.ok(Math.max(width, height) <= Number(file.match(/-(\d+)\.webp$/)![1]))
  }
  for (const { id } of cutOff) assert.equal((await queue.job(id))!.attempt, 2)
})

test('an attempt after a full disk makes only the sizes that are missing', async () => {
  const folder = folderOf()
  await collect(folder)
  const out = join(folder, 'out')
  const blocked = join(out, 'starfish-640.webp.part')
  mkdirSync(blocked, { recursive: true }) // a folder where the file should go: writing fails
  await using queue = testQueue()
  const { id } = await thumbnails(queue, out).submit({ image: join(folder, 'starfish.jpg') })
  await queue.drain()
  const failed = await queue.job(id)
  assert.deepEqual([failed?.state, failed?.progress?.message], ['scheduled', '640 px'])
  const first = statSync(join(out, 'starfish-1600.webp'), { bigint: true })

  rmSync(blocked, { recursive: true })
  await queue.advance('1m')
  const { state, attempt, result } = (await queue.job(id))!
  assert.deepEqual([state, attempt], ['succeeded', 2])
  assert.deepEqual(
    (result as { width: number; height: number }[]).map(({ width, height }) => [width, height]),
    [
      [1278, 720],
      [640, 361],
      [160, 90],
    ],
  )
  const { mtimeNs, ino } = statSync(join(out, 'starfish-1600.webp'), { bigint: true })
  assert.deepEqual([mtimeNs, ino], [first.mtimeNs, first.ino], 'not made again')
})

test('an image that is gone is a dead letter at once', async () => {
  await using queue = testQueue()
  const { id } = await thumbnails(queue, folderOf()).submit({ image: '/nowhere/cat.jpg' })
  await queue.drain()
  const job = await queue.job(id)
  assert.deepEqual([job?.state, job?.reason, job?.attempt], ['dead', 'permanent', 1])
})

test('the colours of an image, most frequent first', async () => {
  const image = join(folderOf(), 'flag.png')
  const blue = { input: { create: { width: 100, height: 300, channels: 3, background: '#0000c8' } } } as const
  const red = sharp({ create: { width: 400, height: 300, channels: 3, background: '#c80000' } })
  await red
    .composite([{ ...blue, left: 300, top: 0 }])
    .png()
    .toFile(image)
  await using queue = testQueue()
  const palette = new URL('../../examples/images/palette.ts', import.meta.url)
  const { id } = await queue.define<{ image: string }>('colours', {}, palette).submit({ image })
  await queue.drain()
  const colours = (await queue.job(id))!.result as string[]
  assert.equal(colours.length, 5)
  assert.equal(colours[0], '#c80000')
  assert.ok(colours.includes('#0000c8'), colours.join())
})
