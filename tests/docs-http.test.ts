import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { main } from './support/bundled.ts'
import { temporaryFolder } from './support/folder.ts'
import { freePort } from './support/port.ts'

const root = join(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/http.md'), 'utf8')
const mark = '--- answer ---'

/** The commands of a page's shell blocks, each with the answer that stands below it, or null where none does. */
function stepsOf(text: string): { command: string; answer: string | null }[] {
  const lines = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) => block!.trimEnd().split('\n'))
  const steps: { command: string; answer: string | null }[] = []
  for (const line of lines)
    if (!line.startsWith('#')) steps.push({ command: line, answer: null })
    else {
      const step = steps.at(-1)!
      step.answer = `${step.answer ?? ''}${line.replace(/^# ?/, '')}\n`
    }
  return steps
}

/** As it stands, with anything in the place of `...`. */
const pattern = (answer: string): RegExp =>
  new RegExp(`^${answer.trimEnd().split('...').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^\\n]*')}$`) // biome-ignore format: long

test('the commands of docs/http.md are answered as it says', {
  skip: spawnSync('curl', ['--version']).status !== 0 && 'no curl here',
}, async () => {
  using folder = temporaryFolder()
  const port = await freePort()
  writeFileSync(folder.file('gopherqueue'), `#!/bin/sh\nexec ${process.execPath} '${main}' "$@" --port ${port}\n`)
  chmodSync(folder.file('gopherqueue'), 0o755)
  const steps = stepsOf(page)
  const script = steps.map(({ command }) => `${command}\necho; echo '${mark}'\n`).join('')
  const { stdout, stderr } = spawnSync('bash', ['-c', `${script}kill %1; wait`.replaceAll('127.0.0.1:7420', `127.0.0.1:${port}`)], {
    cwd: folder.file('.'),
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, PATH: `${folder.file('.')}${delimiter}${process.env.PATH}` },
  }) // biome-ignore format: long
  const answers = stdout.split(`${mark}\n`)
  assert.ok(steps.length > 40 && steps.filter(({ answer }) => answer !== null).length > 35)
  const wrong = steps.flatMap(({ command, answer }, i) => {
    const given = answers[i]?.trimEnd() ?? 'nothing'
    return answer === null || pattern(answer).test(given) ? [] : [`${command}\n${given}`]
  })
  assert.deepEqual(wrong, [], stderr)
})
