import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { typeErrorsOf } from './support/blocks.ts'
import { temporaryFolder } from './support/folder.ts'

const root = join(import.meta.dirname, '..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')
const guide = readFileSync(join(root, 'docs/guide.md'), 'utf8')
const blocksOf = (text: string) => [...text.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]!)
const blocks = [...blocksOf(readme), ...blocksOf(guide)]
const watching = blocksOf(readFileSync(join(root, 'docs/observability.md'), 'utf8'))

/** Runs a block as a program of its own, in a folder with nothing but its modules; answers what it printed. */
function run(block: string, modules: Record<string, string> = {}): string {
  using folder = temporaryFolder()
  for (const [name, text] of Object.entries(modules)) writeFileSync(folder.file(name), text)
  const file = folder.file('example.ts')
  const library = JSON.stringify(join(root, 'src/index.ts'))
  const installed = (name: string) => JSON.stringify(import.meta.resolve(name.slice(1, -1)))
  writeFileSync(file, block.replace("'gopherqueue'", library).replace(/'(zod|@opentelemetry\/[\w-]+)'/g, installed))
  return execFileSync(process.execPath, [file], { cwd: dirname(file), encoding: 'utf8', timeout: 30_000 })
}

test('the first example delivers its mail', () => {
  assert.equal(run(blocks[0]!), "Dear Ada, ...\n{ deliveredTo: 'ada@example.com' }\n")
})

test('the second example prints what its comments say', () => {
  const printed = run(blocks[1]!)
  assert.match(printed, /^true true\nJob 6 is ready, but queue 'reports' is paused; it runs after a resume\.\n/)
})

test('the third example retries and succeeds', () => {
  const printed = run(blocks[2]!)
  assert.match(printed, /^1 the bank is busy \d+\norder 17 charged on attempt 2\n$/)
})

test('the fourth example stores an order and its job, and works it', () => {
  assert.equal(run(blocks[3]!), 'receipt for order 1\n')
})

test('the fifth example takes a queue that nobody has named before', () => {
  assert.equal(run(blocks[4]!), 'tenant-17: May\n')
})

test('the sixth example schedules, and goes on from its checkpoints', () => {
  assert.match(run(blocks[5]!), /^nightly \d{13}\n3\n$/)
})

test('the seventh example is the module of the eighth, which counts primes in a thread', () => {
  assert.equal(run(blocks[7]!, { 'primes.ts': blocks[6]! }), '9592\n')
  assert.equal(blocks.length, 8, 'an example without a test')
})

test('the types of all examples hold', () => {
  assert.equal(typeErrorsOf([...blocks, ...watching], { gopherqueue: join(root, 'src/index.ts') }), '')
})

test('the examples of docs/observability.md print what their comments say', () => {
  const [spans, channels, ...more] = watching
  assert.equal(run(spans!), 'publish email, request, deliver, process email\n1\n')
  assert.deepEqual(run(channels!).split('\n').sort(), ['', 'runs for request 17', 'started 1', 'succeeded 1'])
  assert.deepEqual(more, [])
})

const pages = ['README.md', ...globSync('docs/*.md', { cwd: root })]
for (const page of pages)
  test(`each file that ${page} names as a proof exists`, () => {
    const text = readFileSync(join(root, page), 'utf8')
    const named = [...text.matchAll(/`((?:tests|docs)\/[\w./-]+)`/g)].map((match) => match[1]!)
    for (const file of named) assert.ok(existsSync(join(root, file)), file)
    if (page === 'docs/reliability.md' || page === 'docs/failures.md') assert.ok(named.length > 10)
  })
