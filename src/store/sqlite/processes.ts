import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

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
const me: Identity = {
  host: hostname(),
  pid: process.pid,
  pid_started: linux(() => startOf(process.pid)),
  boot: linux(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
  pid_space: linux(() => readlinkSync('/proc/self/ns/pid')),
}

export const systemProcesses: Processes = { me, isAlive }

/** Facts that only Linux gives; elsewhere a process is known by its id alone. */
function linux(read: () => string | null): string | null {
  if (process.platform !== 'linux') return null
  try {
    return read()
  } catch {
    return null // a hardened /proc: fall back to what is known
  }
}

/**
 * Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), which tells it from a later one with
 * the same id. Null for one that has ended while its parent has not yet waited for it (a zombie).
 */
function startOf(pid: number): string | null {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // from field 3, the state
  return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? '')
}

/** Only what the system says surely is a death: to take a living process for dead costs it its leases. */
function isAlive(row: Identity): boolean | null {
  if (row.pid === null) return null
  if (isSame(row, me)) return true
  if (process.platform === 'linux' && (row.boot === null || me.boot === null)) return null // one of the two could not read it
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

export const isSame = (a: Identity, b: Identity): boolean => instanceOf(a) === instanceOf(b)
