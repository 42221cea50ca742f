import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, readlinkSync, statfsSync } from 'node:fs'

// All that differs between operating systems. Linux is tested as it is; of the others, the fallbacks are tested on Linux.

/** What lies under a folder; `doubt`: why it may lose what was acknowledged. */
export interface Filesystem {
  name: string
  /** SQLite's locks and fsync cannot be trusted over a network. */
  isNetwork: boolean
  doubt?: string
}

/** The questions to which each operating system has its own answer, or none. */
export interface Platform {
  /** Whether `boot`, `pidSpace`, `startOf` and `holdsLock` have answers: elsewhere a process is known by its id alone. */
  readonly hasProc: boolean
  /** False where fsync leaves data in the disk's cache, unless SQLite is told `PRAGMA fullfsync`. */
  readonly fsyncReachesDisk: boolean
  /** The id of this boot of the machine. */
  boot(): string | null
  /** The namespace that process ids belong to. */
  pidSpace(): string | null
  /**
   * When a process started, in clock ticks since boot, which tells it from a later one with the same id. Null for one
   * that has ended while its parent has not yet waited for it (a zombie). Throws when it cannot be read.
   */
  startOf(pid: number): string | null
  /** Whether this process holds a POSIX lock on the file of that inode through that descriptor. */
  holdsLock(descriptor: number, inode: number): boolean
  /** The open descriptors of this process; some may be closed by now. */
  descriptors(): number[]
  /** The files of code that are loaded into this process. */
  libraries(): string[]
  /** Node's own file, as `libraries` names it. */
  executable(): string
  /** Processes that have a file open, as far as this user may see. */
  holdersOf(file: string): { pid: number; name: string }[]
  filesystem(folder: string): Filesystem
  /** A file that was mounted by itself: what belongs beside it lies elsewhere. */
  isMountPoint(file: string): boolean
  /** fsync of a file that was written, or of a folder in which a name has changed. */
  sync(path: string): void
  /** Processes are in groups, and a shell is POSIX's. */
  hasGroups: boolean
  /** Sends a signal to a process and its descendants that stayed in its group. Nothing happens when none is left. */
  signalGroup(leader: number, signal: NodeJS.Signals): void
}

/** Everything but Linux. On Windows there are no POSIX descriptors, process groups, or handles on a folder to sync. */
export function portable(isWindows: boolean, isMac: boolean): Platform {
  return {
    hasProc: false,
    fsyncReachesDisk: !isMac,
    boot: () => null,
    pidSpace: () => null,
    startOf: () => null,
    holdsLock: () => false,
    // Windows locks by handle: two copies of SQLite in one process see each other's locks, so nobody has to find them.
    descriptors: () => (isWindows ? [] : openDescriptors()),
    libraries: () => (isWindows ? [] : reportedLibraries()),
    executable: () => process.execPath,
    holdersOf: () => [],
    isMountPoint: () => false,
    filesystem: (folder) => ({ name: `type ${statfsSync(folder).type}`, isNetwork: false }),
    sync: isWindows ? () => undefined : sync,
    hasGroups: !isWindows,
    signalGroup: (leader, signal) => send(isWindows ? leader : -leader, signal),
  }
}

export const linux: Platform = {
  hasProc: true,
  fsyncReachesDisk: true,
  boot: () => readIfThere('/proc/sys/kernel/random/boot_id')?.trim() ?? null,
  pidSpace: () => linkOf('/proc/self/ns/pid'),
  startOf(pid) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // from field 3, the state; the start is field 22
    return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? '')
  },
  // By inode: the device's number differs from that of stat on overlays and btrfs. Not from /proc/locks: to read it
  // keeps the whole machine from locking for a moment.
  holdsLock(descriptor, inode) {
    try {
      return new RegExp(`^lock:.*:${inode} `, 'm').test(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false // it was closed
      throw error // without a free descriptor nothing is known, and a sound file would be given up
    }
  },
  descriptors: openDescriptors,
  libraries: mappedLibraries,
  executable: () => linkOf('/proc/self/exe') ?? process.execPath,
  holdersOf: (file) =>
    namesIn('/proc')
      .filter((pid) => /^\d+$/.test(pid) && hasOpen(pid, file))
      .map((pid) => ({ pid: Number(pid), name: readIfThere(`/proc/${pid}/comm`)?.trim() ?? '?' })),
  isMountPoint: (file) =>
    (readIfThere('/proc/self/mountinfo') ?? '')
      .split('\n')
      .some((line) => unescaped(line.split(' ')[4] ?? '') === file),
  filesystem(folder) {
    const { type } = statfsSync(folder)
    const network = networks[type]
    if (network) return { name: network, isNetwork: true }
    const [name, doubt] = filesystems[type] ?? [`type ${type}`]
    return { name, isNetwork: false, ...(doubt && { doubt }) }
  },
  sync,
  hasGroups: true,
  signalGroup: (leader, signal) => send(-leader, signal),
}

/** The one that this process runs on. */
export const platform =
  process.platform === 'linux' ? linux : portable(process.platform === 'win32', process.platform === 'darwin')

/** Network filesystems by their magic numbers (statfs(2)). */
const networks: Record<number, string> = {
  26985: 'NFS',
  20859: 'SMB',
  4283649346: 'CIFS',
  4266872130: 'SMB2',
  16914839: '9p',
  1397113167: 'AFS',
  12805120: 'Ceph',
  198183888: 'Lustre',
}

/** Local filesystems by their magic numbers, with what makes them doubtful. */
const filesystems: Record<number, [name: string, doubt?: string]> = {
  61267: ['ext4'],
  1481003842: ['XFS'],
  2435016766: ['Btrfs'],
  801189825: ['ZFS'],
  16914836: ['tmpfs', 'it is memory: all is lost with the power; use a disk'],
  2035054128: ['overlay', 'it goes with its container: put the file on a volume'],
  1702057286: ['FUSE', 'make sure that the program behind it syncs to a disk'],
}

/** Where /dev is not there, as in a bare chroot, the first thousand that may be open. */
function openDescriptors(): number[] {
  const listed = namesIn('/dev/fd').map(Number)
  return listed.length > 0 ? listed : Array.from({ length: 1024 }, (_, number) => number)
}

const reportedLibraries = () => (process.report.getReport() as { sharedObjects: string[] }).sharedObjects

/** The libraries when last listed, and the size of the address space then: to list them costs far more than to ask its size. */
let loaded: { size: string | null; libraries: string[] } = { size: null, libraries: [] }

function mappedLibraries(): string[] {
  const size = readIfThere('/proc/self/statm')?.split(' ')[0] ?? null
  if (size !== null && size === loaded.size) return loaded.libraries
  const maps = readIfThere('/proc/self/maps')?.split('\n')
  const files = maps?.filter((line) => line.includes(' r-xp ') && line.includes('/'))
  loaded = { size, libraries: files ? [...new Set(files.map((line) => line.slice(line.indexOf('/'))))] : reportedLibraries() } // biome-ignore format: one value
  return loaded.libraries
}

/** False of a process that has ended, or belongs to another user. */
const hasOpen = (pid: string, file: string): boolean =>
  namesIn(`/proc/${pid}/fd`).some((name) => linkOf(`/proc/${pid}/fd/${name}`) === file)

function sync(path: string): void {
  const file = openSync(path, 'r')
  fsyncSync(file)
  closeSync(file)
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // ESRCH: nothing is left of them
  }
}

/** What a hardened /proc hides, or a bare chroot has not, is not known. */
function ifThere<T>(read: () => T): T | null {
  try {
    return read()
  } catch {
    return null
  }
}

/** A path of mountinfo: a space stands there as \040. */
const unescaped = (path: string) =>
  path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
const readIfThere = (path: string) => ifThere(() => readFileSync(path, 'utf8'))
const linkOf = (path: string) => ifThere(() => readlinkSync(path))
const namesIn = (folder: string) => ifThere(() => readdirSync(folder)) ?? []
