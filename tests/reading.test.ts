import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/reading.md'), 'utf8')
const named = [...page.matchAll(/^\| `((?:src|dashboard|sim)\/[\w./-]+)` \|/gm)].map((match) => match[1]!)
const there = globSync('{src,dashboard,sim}/**/*.{ts,tsx,css,html}', { cwd: root })

test('docs/reading.md leads through each file of src, dashboard and sim, once, and through none that is not there', () => {
  assert.deepEqual(
    there.filter((file) => !named.includes(file)),
    [],
    'not in docs/reading.md: add a line that says what to look for',
  )
  assert.deepEqual(
    named.filter((file, i) => named.indexOf(file) !== i || !existsSync(join(root, file))),
    [],
    'named twice, or not there',
  )
})

test('its times add up to what it says: a day', () => {
  const minutes = [...page.matchAll(/\((\d+) minutes\)/g)].map((match) => Number(match[1]))
  const sum = minutes.reduce((total, each) => total + each, 0)
  assert.match(page, /eight hours/)
  assert.ok(Math.abs(sum - 8 * 60) < 20, `${sum} minutes`)
})
