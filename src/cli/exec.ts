import { isUtf8 } from 'node:buffer'
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { inNextTurn, systemClock } from '../model/clock.ts'
import { PermanentError, TemporaryError } from '../model/errors.ts'
import { limits } from '../model/job.ts'
import type { ActiveJob } from '../queue/definition.ts'
import { NoResult } from '../queue/result.ts'
import { platform } from '../store/sqlite/platform.ts'

const dataError = 65 // EX_DATAERR of sysexits.h
const killAfter = 5000
/** How long after its exit a command's output counts, in ms, while something that it has left behind holds it open. */
const moment = 1000
const tailBytes = limits.stackBytes - 64 // with what stands before it, as much as the history keeps

/**
 * Runs $1 beside a guard, which reads a pipe that the worker holds open: when the worker is killed, the pipe ends, and the guard
 * kills the group. Else the command would go on beside the job's next attempt. A line in the pipe dismisses it.
 */
const guarded = `{ trap '' TERM INT HUP; read -r line || kill -9 -$$; } <&3 >/dev/null 2>&1 & exec sh -c "$1" 3<&-`

function start(command: string, variables: Record<string, string>) {
  const options = { detached: true, env: { ...process.env, ...variables } }
  if (!platform.hasGroups) return spawn(command, { ...options, shell: true })
  const stdio = ['pipe', 'pipe', 'pipe', 'pipe'] as const
  const child = spawn('sh', ['-c', guarded, 'sh', command], { ...options, stdio: [...stdio] })
  const guard = child.stdio[3] as Duplex
  guard.on('error', () => undefined).resume() // it may be gone with its group
  child.once('exit', () => guard.end('\n'))
  return child as ChildProcessWithoutNullStreams
}

/**
 * Runs a shell command for a job in a process group of its own, and returns when it is over; stdout is the result. What it leaves
 * behind goes on. When `signal` fires before, the group gets SIGTERM, and after 5 s SIGKILL. It dies with the worker, but on Windows, and what leaves the group.
 */
export async function runCommand(command: string, job: ActiveJob, signal: AbortSignal): Promise<unknown> {
  signal.throwIfAborted()
  const variables = {
    GOPHERQUEUE_JOB_ID: `${job.id}`,
    GOPHERQUEUE_ATTEMPT: `${job.attempt}`,
    GOPHERQUEUE_TYPE: job.type,
  }
  const child = start(command, variables)
  const output: Buffer[] = []
  let outputBytes = 0
  let tail = Buffer.alloc(0)
  child.stdout.on('data', (data: Buffer) => {
    outputBytes += data.length
    if (outputBytes <= limits.resultBytes) output.push(data) // what exceeds it is read and dropped, so that the command can end
  })
  child.stderr.on('data', (data: Buffer) => {
    tail = Buffer.concat([tail, data]).subarray(-tailBytes)
  })
  child.stdin.on('error', () => undefined) // EPIPE: nobody has to read the payload
  child.stdin.end(`${JSON.stringify(job.payload)}\n`)

  const kill = (name: NodeJS.Signals) => child.pid !== undefined && platform.signalGroup(child.pid, name)
  let stopTimer: (() => void) | undefined
  const terminate = () => {
    kill('SIGTERM')
    stopTimer = systemClock.timer(killAfter, () => {
      kill('SIGKILL')
      child.stdout.destroy() // a process that left the group may hold them open
      child.stderr.destroy()
    })
  }
  signal.addEventListener('abort', terminate)
  const { promise, resolve, reject } = Promise.withResolvers<[number | null, NodeJS.Signals | null]>()
  child.once('error', reject).once('close', (...how) => resolve(how))
  child.once('exit', (...how) => {
    if (!signal.aborted) stopTimer = systemClock.timer(moment, () => inNextTurn(() => signal.aborted || resolve(how)))
  })
  const [code, killer] = await promise.finally(() => {
    signal.removeEventListener('abort', terminate)
    stopTimer?.()
    if (signal.aborted) kill('SIGKILL') // those of the group that closed their output and stayed
    // Read on, since a closed pipe would end who writes; but it is no reason for this process to stay.
    for (const held of [child.stdout, child.stderr] as Socket[]) held.removeAllListeners('data').resume().unref()
  })

  if (code === 0 && outputBytes > limits.resultBytes)
    return new NoResult(`stdout has ${outputBytes} bytes; a result has at most ${limits.resultBytes}.`)
  const stdout = Buffer.concat(output)
  if (code === 0)
    return isUtf8(stdout) ? parse(stdout.toString()) : new NoResult('stdout has bytes that are not UTF-8.')
  signal.throwIfAborted()
  const message = `${killer ? `Killed by ${killer}` : `Exit code ${code}`}: ${tail.toString().trim() || 'stderr is empty'}`
  throw quiet(code === dataError ? new PermanentError(message) : new TemporaryError(message))
}

/** JSON if it is that, else a string, without its last newline as in a shell's $(...). */
function parse(output: string): unknown {
  const text = output.replace(/\r?\n$/, '')
  try {
    return text === '' ? null : JSON.parse(text)
  } catch {
    return text
  }
}

/** Without a stack: the place in this program says nothing about the command. */
const quiet = (error: Error): Error => Object.assign(error, { stack: '' })
