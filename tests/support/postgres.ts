import { execFileSync } from 'node:child_process'
import { chownSync, existsSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Where Debian has PostgreSQL's programs, the newest version's first; null where there is none. */
export const programs =
  globSync('/usr/lib/postgresql/*/bin')
    .sort()
    .reverse()
    .find((path) => existsSync(join(path, 'initdb'))) ?? null

/** Why tests with a server are skipped, or false. */
export const without = programs === null && 'there is no PostgreSQL on this machine: apt-get install postgresql'

/** PostgreSQL refuses root: there it runs as its own user, or as nobody. */
function user(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  for (const name of ['postgres', 'nobody'])
    try {
      const [uid, gid] = ['-u', '-g'].map((which) => Number(execFileSync('id', [which, name], { stdio: 'pipe' })))
      return { uid: uid!, gid: gid! }
    } catch {
      // there is no such user
    }
  throw new Error('PostgreSQL does not run as root, and there is no user postgres or nobody')
}

/** A PostgreSQL server of a test's own, on a socket of its own. */
export class PostgresServer implements Disposable {
  readonly folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'gq-pg-')) // a crash of the machine is not tested here
  /** Whose process it is. */
  readonly as = user()
  #last = 0

  constructor(settings: Record<string, string> = {}) {
    if (this.as.uid !== undefined) chownSync(this.folder, this.as.uid, this.as.gid!)
    this.#run('initdb', '-D', this.data, '-A', 'trust', '-U', 'postgres', '--no-locale', '-E', 'UTF8', '--no-sync')
    const all = { listen_addresses: '', unix_socket_directories: this.folder, ...settings }
    const lines = Object.entries(all).map(([name, value]) => `${name} = '${value}'\n`)
    writeFileSync(join(this.data, 'postgresql.conf'), lines.join(''), { flag: 'a' })
    this.start()
    process.on('exit', () => this[Symbol.dispose]())
  }

  get data(): string {
    return join(this.folder, 'data')
  }

  start(): void {
    this.#run('pg_ctl', '-D', this.data, '-l', join(this.folder, 'log'), '-w', 'start')
  }

  /** At once, as at a crash. */
  stop(): void {
    this.#run('pg_ctl', '-D', this.data, '-m', 'immediate', '-w', 'stop')
  }

  /** The URL of a queue that nobody has used yet. */
  url(schema = `q${process.pid}_${++this.#last}`): string {
    return `postgres://postgres@${encodeURIComponent(this.folder)}/postgres?schema=${schema}`
  }

  /** What a statement answers, as psql prints it. */
  sql(text: string, database = 'postgres'): string {
    return this.#run('psql', '-h', this.folder, '-U', 'postgres', '-d', database, '-qAtX', '-v', 'ON_ERROR_STOP=1', '-c', text).trim() // biome-ignore format: one line
  }

  #run(program: string, ...args: string[]): string {
    const stdio = program === 'pg_ctl' ? 'ignore' : 'pipe'
    const output = execFileSync(join(programs!, program), args, {
      ...this.as,
      cwd: this.folder,
      stdio,
      encoding: 'utf8',
      maxBuffer: 256 * 1024 * 1024,
    })
    return output ?? ''
  }

  [Symbol.dispose](): void {
    if (!existsSync(this.folder)) return
    try {
      this.stop()
    } catch {
      // it was stopped
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}
