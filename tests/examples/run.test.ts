import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../..')
const examples = readdirSync(join(root, 'examples'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(join(root, 'examples', entry.name, 'main.ts')))
  .map(({ name }) => name)

test('npm run example runs one by its name, and names them when asked for none', () => {
  const run = (name: string) =>
    spawnSync('npm', ['run', '--silent', 'example', name], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, PIECES: '3' },
    })
  const { status, stdout, stderr } = run('orders')
  assert.deepEqual([status, stderr], [0, ''])
  assert.match(stdout, /^placed now: 3; orders: 3, shipped: 3/m)
  const refused = run('nothing')
  assert.deepEqual([refused.status, refused.stdout], [2, ''])
  for (const name of examples) assert.ok(refused.stderr.includes(name), name)
})

test('each example has its test and its line in the README', () => {
  assert.ok(examples.length >= 4)
  const page = readFileSync(join(root, 'examples/README.md'), 'utf8')
  for (const name of examples) {
    assert.ok(existsSync(join(root, `tests/examples/${name}.test.ts`)), name)
    assert.ok(page.includes(`\`npm run example ${name}\``), name)
  }
})
