import { execFileSync, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { type PostgresServer, without as withoutServer } from './postgres.ts'

const program = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((path) => existsSync(path))
const [major = 0, minor = 0] = program === undefined ? [] : execFileSync(program, ['--version'], { encoding: 'utf8' }).match(/\d+/g)!.map(Number) // biome-ignore format: one line

/** Why tests behind a pooler are skipped, or false. */
export const without = withoutServer || (program === undefined && 'there is no pgbouncer: apt-get install pgbouncer')
/** It keeps named prepared statements apart for its clients. */
export const prepares = major > 1 || minor >= 21

/** PgBouncer in transaction mode, with two connections to the server for all of its clients. */
export class Pooler implements Disposable {
  readonly #server: PostgresServer
  readonly #end: () => void

  private constructor(server: PostgresServer, end: () => void) {
    this.#server = server
    this.#end = end
  }

  static async start(server: PostgresServer): Promise<Pooler> {
    const folder = join(server.folder, 'pooler')
    mkdirSync(folder)
    const file = join(folder, 'pgbouncer.ini')
    const settings = {
      ...{
        unix_socket_dir: folder,
        listen_port: 6432,
        auth_type: 'any',
        pool_mode: 'transaction',
        default_pool_size: 4,
      },
      ...{ max_client_conn: 500, logfile: join(folder, 'log'), pidfile: join(folder, 'pid') },
      ...(prepares && { max_prepared_statements: 200 }),
    }
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`)
    const database = `* = host=${server.folder} user=postgres`
    writeFileSync(file, `[databases]\n${database}\n[pgbouncer]\n${lines.join('\n')}\n`)
    const { uid, gid } = server.as
    if (uid !== undefined) for (const path of [folder, file]) chownSync(path, uid, gid!)
    const child = spawn(program!, ['-q', file], { ...server.as, stdio: 'ignore' })
    const end = () => child.kill('SIGKILL')
    process.on('exit', end)
    while (!existsSync(join(folder, '.s.PGSQL.6432')) && child.exitCode === null) await setTimeout(20)
    return new Pooler(server, end)
  }

  /** The URL of a queue that nobody has used yet. */
  url(schema?: string): string {
    const { folder } = this.#server
    const direct = this.#server.url(schema).replace(encodeURIComponent(folder), `${encodeURIComponent(join(folder, 'pooler'))}:6432`) // biome-ignore format: one line
    return prepares ? direct : `${direct}&prepare=false`
  }

  [Symbol.dispose](): void {
    this.#end()
  }
}
