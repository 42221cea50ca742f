/** A promise written to standard output, and what the trace says of the file's WAL before it. */
export interface Promised {
  promise: string
  id: number
  /** Writes to the WAL since the last promise of this kind. */
  writes: number
  /** The last of them had come back before an fsync of the WAL began that had come back when the promise was written. */
  synced: boolean
}

const call = /^(\d+) +(fsync|fdatasync|pwrite64|write)\((\d+)<([^>]*)>(.*)$/
const resumed = /^(\d+) +<\.\.\. (fsync|fdatasync|pwrite64|write) resumed>(.*)$/

/** Reads `strace -f -y -e trace=fsync,fdatasync,pwrite64,write`: system calls of all threads, in the order of the kernel. */
export function readTrace(trace: string, wal: string, kinds: string[]): Promised[] {
  const promised: Promised[] = []
  const since = new Map(kinds.map((kind) => [kind, 0]))
  const inFlight = new Map<string, { path: string; from: number }>()
  let lastWrite = 0 // position in the trace at which a write to the WAL was last begun or under way
  let covered = 0 // everything that had come back before this position is on disk

  const ended = (name: string, path: string, from: number, to: number, rest: string) => {
    if (path !== wal) return
    if (name === 'pwrite64' || name === 'write') lastWrite = to
    else if (/= 0$/.test(rest)) covered = Math.max(covered, from)
  }
  for (const [i, text] of trace.split('\n').entries()) {
    const at = i + 1
    const again = resumed.exec(text)
    if (again) {
      const [, thread, name, rest] = again as unknown as [string, string, string, string]
      const begun = inFlight.get(thread)
      inFlight.delete(thread)
      if (begun) ended(name, begun.path, begun.from, at, rest)
      continue
    }
    const found = call.exec(text)
    if (!found) continue
    const [, thread, name, fd, path, rest] = found as unknown as [string, string, string, string, string, string]
    const isWrite = name === 'pwrite64' || name === 'write'
    if (path === wal && isWrite) {
      lastWrite = at
      for (const kind of kinds) since.set(kind, since.get(kind)! + 1)
    }
    const said = isWrite && fd === '1' ? /^, "([A-Z]+) (\d+)\\n"/.exec(rest) : null
    if (said && since.has(said[1]!)) {
      const [, promise, id] = said as unknown as [string, string, string]
      promised.push({ promise, id: Number(id), writes: since.get(promise)!, synced: covered > lastWrite })
      since.set(promise, 0)
    }
    if (rest.endsWith('<unfinished ...>')) inFlight.set(thread, { path, from: at })
    else ended(name, path, at, at, rest)
  }
  return promised
}
