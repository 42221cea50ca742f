import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What becomes of the next COMMIT that goes over it: it never arrives, its answer does not, nothing arrives any more while both sides wait, or it arrives and this is called. */
export type Cut = 'before' | 'after' | 'hold' | (() => void) | null

/** A socket between a queue and its server, which can be cut at a COMMIT. */
export class CutSocket implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'gq-cut-'))
  readonly #sockets = new Set<Socket>()
  readonly #server
  next: Cut = null
  /** How many were cut. */
  cuts = 0

  private constructor(to: string) {
    this.#server = createServer((client) => this.#pass(client, connect(join(to, '.s.PGSQL.5432'))))
  }

  /** `to`: the folder of the server's socket. */
  static async open(to: string): Promise<CutSocket> {
    const cut = new CutSocket(to)
    await new Promise<void>((done) => cut.#server.listen(join(cut.folder, '.s.PGSQL.5432'), done))
    return cut
  }

  #pass(client: Socket, server: Socket): void {
    let silent = false
    let held = false
    const end = () => {
      client.destroy()
      server.destroy()
    }
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', end).on('close', end)
    }
    client.on('data', (bytes) => {
      const cut = bytes.includes('COMMIT\0') ? this.next : null
      if (cut !== null) {
        this.next = null
        this.cuts++
      }
      if (cut === 'before') return end()
      if (cut === 'after') silent = true
      held ||= cut === 'hold'
      if (!held) server.write(bytes)
      if (typeof cut === 'function') cut()
    })
    server.on('data', (bytes) => {
      if (silent && bytes.includes('COMMIT\0')) end()
      else if (!silent) client.write(bytes)
    })
  }

  /** All connections, at once. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#sockets.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutAll()
    await new Promise((done) => this.#server.close(done))
    rmSync(this.folder, { recursive: true, force: true })
  }
}
