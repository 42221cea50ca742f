import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { apply } from './edits.ts'
import { mutants } from './list.ts'

// Breaks each promise of the list in a copy of this repository, and expects that its tests fail.
//   npm run mutants [-- --only NAME]

const { only } = parseArgs({ options: { only: { type: 'string' } } }).values
const chosen = mutants.filter(({ name }) => !only || name === only)
if (chosen.length === 0) throw new Error(`There is no mutant '${only}': ${mutants.map(({ name }) => name).join(', ')}`)

const root = fileURLToPath(new URL('../', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-mutants-'))
const copy = join(folder, 'copy')
const environment: NodeJS.ProcessEnv = { ...process.env, POWER_STATES: '60' }

interface Run {
  failed: string[]
  skipped: number
  seconds: number
  output: string
}

/** Runs test files of the copy, to the end or to the first failure. */
async function runTests(files: string[], until: 'end' | 'failure'): Promise<Run> {
  const start = performance.now()
  const args = ['--test', '--test-reporter=tap', '--test-timeout=120000', ...files]
  const tests = spawn(process.execPath, args, { cwd: copy, env: environment, detached: true, stdio: 'pipe' })
  const run: Run = { failed: [], skipped: 0, seconds: 0, output: '' }
  for await (const line of createInterface({ input: tests.stdout })) {
    run.output += `${line}\n`
    const failed = /^ *not ok \d+ - (.*)$/.exec(line)?.[1]
    if (failed) run.failed.push(failed)
    if (/^ *ok \d+ .*# SKIP/.test(line)) run.skipped++
    const goesOn = tests.exitCode === null && tests.signalCode === null
    if (failed && until === 'failure' && goesOn) process.kill(-tests.pid!, 'SIGKILL') // with all that it started
  }
  run.seconds = (performance.now() - start) / 1000
  return run
}

try {
  const left = new Set(['.git', 'node_modules', 'dist'].map((name) => join(root, name)))
  cpSync(root, copy, { recursive: true, filter: (path) => !left.has(path) })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  const shared = join(root, '../shared')
  if (existsSync(shared)) symlinkSync(shared, join(folder, 'shared')) // the power tests look beside the repository
  mkdirSync(join(folder, 'tmp'))
  environment.TMPDIR = join(folder, 'tmp')

  const unbroken = await runTests([...new Set(chosen.flatMap(({ tests }) => tests))], 'end')
  if (unbroken.failed.length > 0) {
    console.error(unbroken.output)
    throw new Error(`Without any mutant these fail already: ${unbroken.failed.join('; ')}`)
  }
  const survivors: string[] = []
  console.log('| break | result | by | s |\n|---|---|---|---|')
  for (const mutant of chosen) {
    using _ = apply(copy, mutant)
    const { failed, skipped, seconds } = await runTests(mutant.tests, 'failure')
    const loads = !failed[0]?.includes('.test.ts') // a file that fails as a whole says nothing of the promise
    const result = failed.length === 0 ? 'SURVIVED' : loads ? 'caught' : 'DOES NOT LOAD'
    if (result !== 'caught') survivors.push(mutant.name)
    const by = failed[0] ?? (skipped > 0 ? `${skipped} skipped here` : '')
    console.log(
      `| ${mutant.name} | ${result} | ${by.replaceAll('|', '/').replaceAll(copy, '')} | ${seconds.toFixed(1)} |`,
    )
    rmSync(join(folder, 'tmp'), { recursive: true, force: true })
    mkdirSync(join(folder, 'tmp'))
  }
  console.log(`\n${chosen.length - survivors.length} of ${chosen.length} caught`)
  if (survivors.length > 0)
    console.error(`Not caught: ${survivors.join(', ')} (see ${relative('.', 'mutants/list.ts')})`)
  process.exitCode = survivors.length > 0 ? 1 : 0
} finally {
  rmSync(folder, { recursive: true, force: true })
}
