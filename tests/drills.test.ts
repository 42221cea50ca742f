import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { noMount } from './faults/support.ts'
import { main } from './support/bundled.ts'
import { temporaryFolder } from './support/folder.ts'

// What docs/failures.md and docs/token-leaked.md say to type, typed.

const root = join(import.meta.dirname, '..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const [, ...sections] = read('docs/failures.md').split('\n## Drills\n')[1]!.split('\n### ')
const drills = sections.map((text) => ({ title: text.split('\n', 1)[0]!, text }))
const needs = ['bash', 'sqlite3', 'curl'].find((tool) => spawnSync(tool, ['--version']).error !== undefined)
const mark = '--- answer ---'

interface Step {
  command: string
  /** Lines of what it prints; null where the page does not say. */
  answer: string | null
}

function stepsOf(text: string): Step[] {
  const lines = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) => block!.trimEnd().split('\n'))
  const steps: Step[] = []
  for (const line of lines)
    if (!line.startsWith('#')) steps.push({ command: line, answer: null })
    else steps.at(-1)!.answer = `${steps.at(-1)!.answer ?? ''}${line.replace(/^# ?/, '')}\n`
  return steps
}

const spaced = (text: string) => text.trim().replace(/[ \t]+/g, ' ')

/** As it stands, with anything in the place of `...`. */
const pattern = (answer: string): RegExp =>
  new RegExp(`^${spaced(answer).split('...').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^\\n]*')}$`) // biome-ignore format: long

/** Types the steps in a folder, one after the other; whatever they left running ends with it. */
async function typed(t: TestContext, folder: string, steps: Step[]): Promise<string[]> {
  writeFileSync(join(folder, 'gopherqueue'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`)
  chmodSync(join(folder, 'gopherqueue'), 0o755)
  const script = steps.map(({ command }) => `${command}\necho '${mark}'\n`).join('')
  const { GOPHERQUEUE_URL: _, ...env } = process.env
  const shell = spawn('bash', ['--norc', '-c', `exec 2>&1\n${script}`], {
    cwd: folder,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...env, GOPHERQUEUE_DB: 'jobs.db', PATH: `${folder}${delimiter}${env.PATH}` },
  })
  const end = () => {
    try {
      process.kill(-shell.pid!, 'SIGKILL')
    } catch {
      // all of it has ended
    }
  }
  t.after(end)
  let said = ''
  shell.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await once(shell, 'exit')
  end()
  // What the shell itself says of a process that was ended belongs to no command.
  return said.replace(/^bash: line \d+: +\d+ (Killed|Terminated) .*\n/gm, '').split(`${mark}\n`)
}

async function practise(t: TestContext, text: string, before: Step[] = []): Promise<void> {
  using folder = temporaryFolder()
  const steps = [...before, ...stepsOf(text)]
  const answers = await typed(t, folder.file('.'), steps)
  const wrong = steps.flatMap(({ command, answer }, i) => {
    const given = answers[i] ?? 'nothing: it did not come so far'
    return answer === null || pattern(answer).test(spaced(given)) ? [] : [`${command}\n${given}`]
  })
  assert.deepEqual(wrong, [])
  assert.equal(answers.length, steps.length + 1, `it ended at ${steps[answers.length - 1]?.command}`)
}

test('there is a drill for each trouble that has one', () => {
  const titles = ['The disk is full', 'The disk is read-only', 'The file is damaged', 'A worker is stuck', 'A job kills its worker', 'A type is misspelt', 'A backlog grows', 'A backup is restored', 'The file grows: retention', 'An upgrade, and back', 'A token leaked'] // biome-ignore format: a list
  assert.deepEqual(drills.map(({ title }) => title), titles) // biome-ignore format: short
})

for (const { title, text } of drills)
  test(
    `the drill '${title}' goes as docs/failures.md says`,
    {
      skip: needs ? `${needs} is not installed` : / mount -t /.test(text) && noMount,
      timeout: 240_000,
    },
    (t) => practise(t, text),
  )

test('what docs/token-leaked.md says to type works', { skip: needs && `${needs} is not installed` }, async (t) => {
  const before = [
    'gopherqueue token create shop-web --scope submit > secret',
    `printf '{"to":"ada"}\\n{"to":"bob"}\\n' | gopherqueue submit mail - --json > submitted`,
    'set -e',
  ]
  await practise(t, read('docs/token-leaked.md'), before.map((command) => ({ command, answer: null }))) // biome-ignore format: short
})
