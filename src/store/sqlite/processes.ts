import { createHash, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { type Platform, platform } from './platform.ts'

/** Who a process is: as gq_workers says it. */
export interface Identity {
  host: string
  pid: number | null
  pid_started: string | null
  boot: string | null
  pid_space: string | null
}

/** Who this process is, and which others still live: the operating system's word, unless a simulator gives its own. */
export interface Processes {
  readonly me: Identity
  /** Null when that cannot be told from here (another host or container): the worker's lease decides. */
  isAlive(row: Identity): boolean | null
}

/** This process, named so exactly that no later one can be taken for it. */
const identify = (platform: Platform): Identity => ({
  host: hostname(),
  pid: process.pid,
  pid_started: startIfKnown(platform),
  boot: platform.boot(),
  pid_space: platform.pidSpace(),
})

function startIfKnown(platform: Platform): string | null {
  try {
    return platform.startOf(process.pid)
  } catch {
    return null // a hardened /proc: fall back to what is known
  }
}

export function processesOf(platform: Platform): Processes {
  const me = identify(platform)
  return { me, isAlive: (row) => isAlive(row, me, platform) }
}

export const systemProcesses = processesOf(platform)

/** Only what the system says surely is a death: to take a living process for dead costs it its leases. */
function isAlive(row: Identity, me: Identity, { hasProc, startOf }: Platform): boolean | null {
  if (row.pid === null) return null
  if (isSame(row, me)) return true
  if (hasProc && (row.boot === null || me.boot === null)) return null // one of the two could not read it
  if (row.boot !== me.boot) return row.host === me.host ? false : null // the machine was restarted since
  if (row.pid_space !== me.pid_space) return null
  const isThere = hasProcess(row.pid)
  if (!isThere || row.pid_started === null || me.pid_started === null) return isThere
  try {
    return startOf(row.pid) === row.pid_started
  } catch {
    return null // no free descriptor, or it is hidden, or it has just ended, which the next look finds
  }
}

/** Needs no descriptor, and knows of processes that /proc hides from this user. */
function hasProcess(pid: number): boolean | null {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EPERM' || (code === 'ESRCH' ? false : null)
  }
}

/** One text for what names a process. */
export const instanceOf = ({ boot, pid_space, pid, pid_started }: Identity): string =>
  [boot, pid_space, pid, pid_started].join(' ')

/** A name for a server elsewhere. Where the system does not say when a process began, each thread has one of its own. */
export function nameOf(me: Identity): string {
  const unknown = me.boot === null || me.pid_started === null ? randomUUID() : ''
  return createHash('sha256')
    .update(`${me.host} ${instanceOf(me)} ${unknown}`)
    .digest('hex')
    .slice(0, 32)
}

export const isSame = (a: Identity, b: Identity): boolean => instanceOf(a) === instanceOf(b)
