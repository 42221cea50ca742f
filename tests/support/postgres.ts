import { execFile, execFileSync } from 'node:child_process'
import { chownSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'

/** Folders with PostgreSQL's programs: of the version that POSTGRES_BIN names, and Debian's, the newest first. */
const folders = globSync('/usr/lib/postgresql/*/bin').sort().reverse()
if (process.env.POSTGRES_BIN) folders.unshift(process.env.POSTGRES_BIN)

/** That of another version does as well: what npm has of PostgreSQL is without it. */
export const psql = folders.map((folder) => join(folder, 'psql')).find(existsSync)
const programs = folders.find((folder) => existsSync(join(folder, 'initdb')))

/** Why tests with a server are skipped, or false. */
export const without = !(psql && programs) && 'there is no PostgreSQL on this machine: apt-get install postgresql'

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

  /** `primary`: the server of which it is a standby. */
  constructor(settings: Record<string, string> = {}, primary?: PostgresServer) {
    if (this.as.uid !== undefined) chownSync(this.folder, this.as.uid, this.as.gid!)
    if (primary) this.#copy(primary)
    else this.#run('initdb', '-D', this.data, '-A', 'trust', '-U', 'postgres', '--no-locale', '-E', 'UTF8', '--no-sync')
    this.#begin(settings)
    process.on('exit', () => this[Symbol.dispose]())
  }

  #copy(primary: PostgresServer): void {
    const { data } = this
    const isOld = Number(primary.sql('SHOW server_version_num')) < 150_000
    primary.#psql(
      'postgres',
      isOld ? `SELECT pg_start_backup('standby', true, false)` : `SELECT pg_backup_start('standby', true)`,
      `\\! cp -a ${primary.data} ${data}; rm ${data}/postmaster.pid; touch ${data}/standby.signal`,
      `\\o ${data}/backup_label`,
      `SELECT labelfile FROM ${isOld ? 'pg_stop_backup' : 'pg_backup_stop'}(false)`,
    )
    const from = `host=${primary.folder} user=postgres application_name=standby`
    const settings = `primary_conninfo = '${from}'\nsynchronous_standby_names = ''\n`
    writeFileSync(join(data, 'postgresql.auto.conf'), settings, { flag: 'a' })
  }

  #begin(settings: Record<string, string> = {}): void {
    const all = { listen_addresses: '', unix_socket_directories: this.folder, log_line_prefix: '%e ', ...settings }
    const lines = Object.entries(all).map(([name, value]) => `${name} = '${value}'\n`)
    writeFileSync(join(this.data, 'postgresql.conf'), lines.join(''), { flag: 'a' })
    this.start()
  }

  /** Begins anew, as a standby. */
  follow(primary: PostgresServer): void {
    rmSync(this.data, { recursive: true, force: true })
    this.#copy(primary)
    this.#begin()
  }

  get data(): string {
    return join(this.folder, 'data')
  }

  start(): void {
    const log = join(this.folder, 'log')
    try {
      this.#run('pg_ctl', '-D', this.data, '-l', log, '-w', 'start')
    } catch (cause) {
      throw new Error(`PostgreSQL did not start: ${readFileSync(log, 'utf8').slice(-2000)}`, { cause })
    }
  }

  /** At once, as at a crash. */
  stop(): void {
    this.#run('pg_ctl', '-D', this.data, '-m', 'immediate', '-w', 'stop')
  }

  /** As when its machine ends: all its processes at once, and nothing is told to anybody. */
  kill(): void {
    const master = Number(readFileSync(join(this.data, 'postmaster.pid'), 'utf8').split('\n')[0])
    process.kill(master, 'SIGSTOP') // or it would begin to end its children itself
    const children = execFileSync('ps', ['-o', 'pid=', '--ppid', `${master}`], { encoding: 'utf8' })
    for (const pid of [master, ...children.trim().split(/\s+/).map(Number)])
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // it has just ended
      }
    for (const lock of [join(this.data, 'postmaster.pid'), join(this.folder, '.s.PGSQL.5432.lock')]) rmSync(lock)
  }

  /** A standby becomes the primary. */
  async promote(): Promise<void> {
    const args = ['-D', this.data, '-w', 'promote']
    await promisify(execFile)(join(programs!, 'pg_ctl'), args, { ...this.as, cwd: this.folder })
  }

  /** Its commits wait for a standby from now on. */
  async waitsForStandby(): Promise<void> {
    this.sql(`ALTER SYSTEM SET synchronous_standby_names = 'standby'`)
    this.sql('SELECT pg_reload_conf()')
    while (this.sql('SELECT sync_state FROM pg_stat_replication') !== 'sync') await setTimeout(20)
  }

  /** What it said of statements that it did not understand: the engine may take an error there for one of the storage. */
  get notUnderstood(): string[] {
    const lines = readFileSync(join(this.folder, 'log'), 'utf8').split('\n')
    return lines.filter((line) => /^42(?!P01|501)/.test(line)) // tables that are gone, and rights, are tests' own
  }

  /** The URL of a queue that nobody has used yet. */
  url(schema = `q${process.pid}_${++this.#last}`): string {
    return `postgres://postgres@${encodeURIComponent(this.folder)}/postgres?schema=${schema}`
  }

  /** What a statement answers, as psql prints it. */
  sql(text: string, database = 'postgres'): string {
    return this.#psql(database, text)
  }

  /** In one session. */
  #psql(database: string, ...commands: string[]): string {
    const options = ['-h', this.folder, '-U', 'postgres', '-d', database, '-qAtX', '-v', 'ON_ERROR_STOP=1']
    return this.#run(psql!, ...options, ...commands.flatMap((command) => ['-c', command])).trim()
  }

  #run(program: string, ...args: string[]): string {
    const stdio = program === 'pg_ctl' ? 'ignore' : 'pipe'
    const output = execFileSync(resolve(programs!, program), args, {
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
