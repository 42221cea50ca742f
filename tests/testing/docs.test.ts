import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { typeErrorsOf } from '../support/blocks.ts'
import { temporaryFolder } from '../support/folder.ts'

// The blocks of docs/testing.md, each as a test file of its own.

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/testing.md'), 'utf8')
const blocks = [...page.matchAll(/```(ts|js)(?: (\w+))?\n(.*?)```/gs)].map(([, language, runner, text]) => {
  return { language: language!, runner: runner ?? 'node:test', text: text! }
})
const standIn = fileURLToPath(import.meta.resolve('./expect.ts'))
const places = {
  gopherqueue: join(root, 'src/index.ts'),
  'gopherqueue/testing': join(root, 'src/testing/index.ts'),
  vitest: standIn,
  '@jest/globals': standIn,
}

/** Runs a block with the runner of Node; answers its exit status and what it printed. */
function run({ language, text }: (typeof blocks)[number]) {
  using folder = temporaryFolder()
  const file = folder.file(`example.test.${language}`)
  let source = text
  for (const [name, place] of Object.entries(places)) source = source.replace(`'${name}'`, JSON.stringify(place))
  writeFileSync(folder.file('package.json'), '{ "type": "module" }')
  writeFileSync(file, source)
  const { NODE_TEST_CONTEXT: _, ...env } = process.env // else the runner in it reports to ours
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', file], {
    encoding: 'utf8',
    env,
    timeout: 30_000,
  })
  return { status, printed: stdout + stderr }
}

for (const [i, block] of blocks.entries())
  test(`block ${i + 1} passes (${block.runner})`, () => {
    const { status, printed } = run(block)
    assert.equal(status, 0, printed)
    const tests = block.text.match(/^test\(/gm)!.length
    assert.match(printed, new RegExp(`^# pass ${tests}$`, 'm'))
  })

test('a block that does not hold would be noticed', () => {
  for (const [from, to] of [
    ["reason: 'permanent'", "reason: 'exhausted'"],
    ['attempt: 4', 'attempt: 5'],
    ["['ada@example.com'])", '[])'],
  ] as const) {
    const block = blocks.find(({ text }) => text.includes(from))!
    assert.equal(run({ ...block, text: block.text.replace(from, to) }).status, 1, from)
  }
})

test('the page shows each runner, and all blocks have the types they should', () => {
  assert.deepEqual(
    blocks.map(({ runner }) => runner),
    [...Array(5).fill('node:test'), 'vitest', 'jest'],
  )
  const texts = blocks.map(({ text }) => text)
  assert.equal(typeErrorsOf(texts, places), '')
})
