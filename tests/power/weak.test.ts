import assert from 'node:assert/strict'
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { folderFor } from '../crash/processes.ts'
import { judge, record, untried } from './recording.ts'

// Proof that the harness can fail: the same run, with a library that does not sync at each commit.

const root = fileURLToPath(new URL('../../', import.meta.url))

test('with synchronous=NORMAL, power cuts lose what was acknowledged, and this harness sees it', {
  skip: untried,
}, async (t) => {
  const folder = folderFor(t)
  cpSync(join(root, 'src'), join(folder, 'src'), { recursive: true })
  cpSync(join(root, 'package.json'), join(folder, 'package.json'))
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules')) // the copy finds its packages beside it
  const file = join(folder, 'src/store/sqlite/connection.ts')
  const source = readFileSync(file, 'utf8')
  const weak = source
    .replace('PRAGMA synchronous = FULL', 'PRAGMA synchronous = NORMAL')
    .replace('row.synchronous !== 2', 'row.synchronous !== 1')
  assert.ok(!weak.includes('= FULL;') && !weak.includes('!== 2'), 'the source no longer reads as this test expects')
  writeFileSync(file, weak)

  const library = pathToFileURL(join(folder, 'src/index.ts')).href
  const log = await record(t, folder, library)
  const { passed, failed, output } = await judge(t, folder, log, { library, states: 40, seed: 1 })
  t.diagnostic(`${passed} states passed, ${failed} failed`)
  assert.ok(failed > 0)
  assert.match(output, /the job is lost|not counted|no such record|cancelled|succeeded/)
})
