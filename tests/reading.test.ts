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

test('what takes a day is read at 13 lines a minute', () => {
  const day = [...page.matchAll(/^\| `([\w./-]+)` \| \*\*Day\.\*\* /gm)].map((match) => match[1]!)
  const lines = day.reduce((sum, file) => sum + readFileSync(join(root, file), 'utf8').split('\n').length - 1, 0)
  assert.match(page, /eight hours at 13 lines a minute/)
  assert.ok(Math.abs(lines / 13 - 8 * 60) < 20, `${lines} lines`)
})
