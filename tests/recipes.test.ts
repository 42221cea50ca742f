import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { typeErrorsOf } from './support/blocks.ts'
import { temporaryFolder } from './support/folder.ts'

const root = join(import.meta.dirname, '..')
const library = join(root, 'src/index.ts')
const page = readFileSync(join(root, 'docs/recipes.md'), 'utf8')
const blocks = [...page.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]!)

/** Runs a block as a program of its own in an empty folder; answers the lines that it printed. */
function run(block: string): string[] {
  using folder = temporaryFolder()
  writeFileSync(folder.file('recipe.ts'), block.replace("'gopherqueue'", JSON.stringify(library)))
  const options = { cwd: folder.file('.'), encoding: 'utf8', timeout: 60_000 } as const
  return execFileSync(process.execPath, ['recipe.ts'], options).trimEnd().split('\n')
}

test('debounce: ten changes are one run, after the last', () => {
  assert.deepEqual(run(blocks[0]!), ['indexed 17', '9 changes came along'])
})

test('batch: its end comes after that of its parts', () => {
  assert.deepEqual(run(blocks[1]!), ['3 of 3 photos'])
})

test('webhooks: sent again when the receiver says so, and taken once', () => {
  const printed = run(blocks[2]!)
  assert.equal(printed[0], 'the receiver/ answered 503')
  assert.deepEqual(printed.slice(1).sort(), ['202', 'paid: {"order":17}'])
})

test('a rate: two of three mails, and why the third waits', () => {
  const used = "Job 3 is ready, but queue 'mail' has used up its rate of 2 in 1h"
  assert.deepEqual(run(blocks[3]!), ['to ada', 'to bob', used])
  assert.equal(blocks.length, 4, 'a recipe without a test')
})

test('the types of all recipes hold', () => {
  assert.equal(typeErrorsOf(blocks, { gopherqueue: library }), '')
})
