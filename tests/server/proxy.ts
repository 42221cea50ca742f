import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { randomFrom } from '../crash/random.ts'

export type Fault = 'cut' | 'reset' | 'silent' | 'half to server' | 'half to client' | 'slow'
const faults: Fault[] = ['cut', 'reset', 'silent', 'half to server', 'half to client', 'slow']

/** Stands between clients and a server, and does to each connection, sooner or later, what networks do. */
export class FaultProxy {
  /** How often each fault was met. */
  readonly met: Partial<Record<Fault, number>> = {}
  /** Off: connections that are made are left alone. */
  faulty = true
  /** Port of the server, which may change. */
  target: number
  /** Of the next requests whose path is given: the server's answer does not arrive, the connection is reset in its place. */
  readonly losing: string[] = []
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #random: () => number

  private constructor(target: number, seed: number) {
    this.target = target
    this.#random = randomFrom(seed)
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#pass(client))
  }

  static async start(target: number, seed: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(target, seed)
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening')
    return proxy
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Ends all connections as they are. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.#server.close()
    this.cutAll()
    await once(this.#server, 'close')
  }

  #pass(client: Socket): void {
    const server = connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true })
    const both = [client, server]
    const fault = this.faulty ? faults[Math.floor(this.#random() * faults.length)]! : null
    let left = Math.floor(this.#random() ** 3 * 100_000) // bytes, of both directions, until it happens
    let happened = false
    const happen = () => {
      happened = true
      this.met[fault!] = (this.met[fault!] ?? 0) + 1
      if (fault === 'cut') for (const socket of both) socket.destroy()
      else if (fault === 'reset') for (const socket of both) socket.resetAndDestroy()
      else if (fault === 'half to server') server.end()
      else if (fault === 'half to client') client.end()
      else if (fault === 'silent')
        setTimeout(() => {
          for (const socket of both) socket.resetAndDestroy()
        }, 2000)
    }
    let isLost = false
    const loses = (from: Socket, bytes: Buffer): boolean => {
      if (from === client) {
        const next = this.losing.findIndex((path) => bytes.toString('latin1').includes(` ${path} HTTP/1.1\r\n`))
        if (next >= 0) isLost = this.losing.splice(next, 1).length === 1
        return false
      }
      if (isLost) for (const socket of both) socket.resetAndDestroy()
      return isLost
    }
    const forward = (from: Socket, to: Socket) => {
      this.#sockets.add(from)
      from.setNoDelay(true)
      from.on('data', (bytes) => {
        if (loses(from, bytes)) return
        const whole = !fault || happened || bytes.length <= left
        if (happened && fault === 'silent') return
        if (happened && fault === 'slow') {
          from.pause()
          setTimeout(() => {
            if (to.writable) to.write(bytes)
            from.resume()
          }, 250)
          return
        }
        if (to.writable) to.write(whole ? bytes : bytes.subarray(0, left))
        left -= bytes.length
        if (!whole) happen()
        if (!whole && fault === 'slow' && to.writable) to.write(bytes.subarray(left + bytes.length))
      })
      from.on('end', () => !(happened && fault === 'silent') && to.end())
      from.on('error', () => to.destroy())
      from.on('close', () => {
        this.#sockets.delete(from)
        to.destroySoon()
      })
    }
    forward(client, server)
    forward(server, client)
  }
}
