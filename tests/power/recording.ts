import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Child, start, until } from '../crash/processes.ts'
import type { CheckConfig } from './check.child.ts'
import type { RunConfig } from './run.child.ts'

/** The recorder of writes and the builder of what a power cut leaves of them: kept outside of this repository. */
const tools = fileURLToPath(new URL('../../../shared/crash', import.meta.url))

const compiler = 'gcc'
const pipeMaker = 'mkfifo'

/** Why power cuts cannot be tried here, or false. */
export const untried: string | false = !existsSync(join(tools, 'recorder.c'))
  ? '../shared/crash is not here'
  : process.platform !== 'linux'
    ? 'its recorder needs Linux'
    : spawnSync(compiler, ['--version']).error
      ? `${compiler} is not installed`
      : false

/** The library of this repository. */
export const real = new URL('../../src/index.ts', import.meta.url).href

/** Two processes in turns; the last step ends in SIGKILL. */
const turns: ['one' | 'two', string][] = [
  ['one', 'create'],
  ['two', 'open'],
  ['two', 'work'],
  ['one', 'open'],
  ['one', 'submit'],
  ['two', 'work'],
  ['one', 'fill'],
  ['one', 'work'],
  ['one', 'giveBack'],
  ['two', 'hold'],
  ['one', 'die'],
]

/** Records the run. Answers with the recording's path. */
export async function record(
  t: TestContext,
  folder: string,
  library: string,
  options: { driver?: string } = {},
): Promise<string> {
  const recorder = join(folder, 'recorder.so')
  execFileSync(compiler, ['-O2', '-shared', '-fPIC', '-o', recorder, join(tools, 'recorder.c'), '-ldl', '-lpthread'])
  const data = join(folder, 'data')
  const log = join(folder, 'run.log')
  mkdirSync(data)
  const recorded = ['env', `LD_PRELOAD=${recorder}`, `CRASH_DIR=${data}`, `CRASH_LOG=${log}`]
  const config: RunConfig = { folder: data, library, ...options }
  const child = () => start(t, '../power/run.child.ts', config, recorded)
  const processes = { one: child(), two: child() }
  for (const [name, step] of turns) {
    const process = processes[name]
    process.output = ''
    process.tell(step)
    await until(`${name}: ${step}`, 60, () => process.output === `${step} done\n` || !process.alive)
    assert.equal(process.complaints, '')
    assert.equal(process.alive, step !== 'die', `${name}: ${step}`)
  }
  assert.equal(await processes.one.ended, 'SIGKILL')
  await processes.two.kill()
  assert.equal(processes.two.complaints, '')
  return log
}

export interface Verdict {
  passed: number
  failed: number
  /** Of the recording. */
  records: number
  syncs: number
  /** Acknowledged facts that were looked for and found, in all states that passed. */
  facts: number
  /** What was said of the first failing states. */
  output: string
}

/** Builds states that a power cut could have left of the recording, and judges each. */
export async function judge(
  t: TestContext,
  folder: string,
  log: string,
  { library, states, seed, strict = false }: { library: string; states: number; seed: number; strict?: boolean },
): Promise<Verdict> {
  const pipes = { ask: join(folder, 'ask'), answer: join(folder, 'answer') }
  execFileSync(pipeMaker, [pipes.ask, pipes.answer])
  const config: CheckConfig = { ...pipes, library }
  const checker = start(t, '../power/check.child.ts', config)
  const question = join(folder, 'question.sh')
  writeFileSync(
    question,
    `printf '%s\\n' "$CRASH_STATE" "$CRASH_ACKED" > ${pipes.ask}
     answer=$(cat ${pipes.answer})
     [ "$answer" = good ] || { echo "$answer"; exit 1; }`,
  )
  const flags = ['--states', String(states), '--seed', String(seed), ...(strict ? ['--strict'] : [])]
  const replay = [process.execPath, join(tools, 'replay.js'), log, '--check', `timeout 60 sh ${question}`, ...flags]
  const replayer = new Child('env', [`TMPDIR=${folder}`, ...replay])
  t.after(() => replayer.kill())
  await replayer.ended
  assert.ok(checker.alive, checker.complaints)
  await checker.kill()
  const { output, complaints } = replayer
  const found = /^(\d+) passed, (\d+) failed \((\d+) records, (\d+) syncs\)$/m.exec(output)
  assert.ok(found, `${output}\n${complaints}`)
  const [passed, failed, records, syncs] = found.slice(1).map(Number) as [number, number, number, number]
  const facts = checker.output.split('\n').reduce((sum, line) => sum + Number(line), 0)
  return { passed, failed, records, syncs, facts, output }
}
