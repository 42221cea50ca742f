import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { edited } from '../mutants/edits.ts'
import { mutants } from '../mutants/list.ts'

// The list of deliberate breaks cannot rot: `npm run mutants` runs it, this looks whether it still fits.

const root = fileURLToPath(new URL('../', import.meta.url))

test('each deliberate break still fits the source, and its tests are there', () => {
  for (const mutant of mutants) {
    edited(root, mutant)
    assert.ok(mutant.tests.length > 0, mutant.name)
    for (const file of mutant.tests) assert.ok(existsSync(join(root, file)), `${mutant.name}: ${file}`)
  }
  assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length, 'names are unique')
})

test('docs/reliability.md names each deliberate break with its tests, and no other', () => {
  const text = readFileSync(join(root, 'docs/reliability.md'), 'utf8')
  const section = text.split(/^## /m).find((part) => part.startsWith('Deliberate breaks'))
  const rows = [...(section ?? '').matchAll(/^\| `([^`]+)` \| (.*) \| (.*) \|$/gm)].map((row) => row.slice(1))
  const expected = mutants.map(({ name, breaks, tests }) => [
    name,
    breaks,
    tests.map((file) => `\`${file}\``).join(', '),
  ])
  assert.deepEqual(rows, expected)
})
