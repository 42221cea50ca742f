import { spawnSync } from 'node:child_process'

/** An app that submits a job, works it and prints its result, or the error of `open`. */
export function workingApp(format: 'esm' | 'cjs'): string {
  const load =
    format === 'esm' ? `import { GopherQueue } from 'gopherqueue'` : `const { GopherQueue } = require('gopherqueue')`
  return `${load}
async function main() {
  const queue = await GopherQueue.open(':memory:')
  const greet = queue.define('greet', {}, ({ payload }) => 'hello ' + payload)
  const { id } = await greet.submit('gopher')
  queue.work()
  console.log(await greet.wait(id))
  await queue.close()
}
main().catch((error) => console.log(error.name, error.code, error.message))
`
}

/** What a program of the project printed, errors too; one that hangs is killed. */
export function run(project: string, file: string): string {
  const { stdout, stderr } = spawnSync(process.execPath, [file], { cwd: project, encoding: 'utf8', timeout: 60_000 })
  return stdout + stderr
}
