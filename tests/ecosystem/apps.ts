import { spawn, spawnSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../support/port.ts'

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

/** A program of an app that listens at `url` until the scope ends. */
export interface Server extends AsyncDisposable {
  readonly url: string
  /** What it printed up to now. */
  output(): string
  /** Resolves when it has printed such a text; throws when it ends without. */
  said(text: RegExp): Promise<void>
  /** Sends SIGTERM, and SIGKILL 30 s later; answers the signal or exit code it ended with. */
  stop(): Promise<string | number>
}

/** Starts a program that listens at PORT, and waits until it does. */
export async function serve(cwd: string, ...args: string[]): Promise<Server> {
  const port = await freePort()
  const env = { ...process.env, PORT: `${port}`, HOSTNAME: '127.0.0.1', NEXT_TELEMETRY_DISABLED: '1' }
  const child = spawn(process.execPath, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let end: string | number | undefined
  const heard = new EventEmitter()
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
      heard.emit('more')
    })
  child.on('exit', (code, signal) => {
    end = signal ?? code!
    heard.emit('more')
  })
  const gone = () => new Error(`The app ended with ${end}: ${output}`)
  const stop = async () => {
    child.kill('SIGTERM')
    const patience = setTimeout(() => child.kill('SIGKILL'), 30_000) // an app that does not end must not hang its test
    while (end === undefined) await once(heard, 'more')
    clearTimeout(patience)
    return end
  }
  const said = async (text: RegExp) => {
    while (!text.test(output)) {
      if (end !== undefined) throw gone()
      await once(heard, 'more')
    }
  }
  const listens = () =>
    new Promise<boolean>((answer) => {
      const socket = connect(port, '127.0.0.1', () => answer(true)).on('error', () => answer(false))
      socket.end()
    })
  while (!(await listens())) {
    await sleep(50)
    if (end !== undefined) throw gone()
  }
  const url = `http://127.0.0.1:${port}`
  return { url, output: () => output, said, stop, [Symbol.asyncDispose]: async () => void (await stop()) }
}
