import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'

const root = join(import.meta.dirname, '..')

// They read what a server prints: two of them waited for ever once its greeting went to stderr.
test('the benchmarks of the server come to their end', { timeout: 120_000 }, () => {
  const short = ['--rounds', '1', '--seconds', '0.1', '--jobs', '20', '--connections', '2']
  const said = execFileSync(process.execPath, ['bench/http.ts', ...short], { cwd: root, encoding: 'utf8' })
  assert.match(said, /median: [\d.]+ of bare, \d+ jobs\/s/)
})
