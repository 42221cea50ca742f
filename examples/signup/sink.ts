import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { SMTPServer } from 'smtp-server'

/** What a mailbox says of its next mail, as SMTP does; undefined takes it. */
type Answer = { code: number; message: string } | undefined

/** A mail server on this machine that delivers nothing and tells what it got. Port 0: any that is free. */
export async function smtpSink(
  port: number,
  answer: (to: string) => Answer,
  got: (to: string, message: string) => void,
): Promise<{ url: string; port: number; close(): Promise<void> }> {
  const server = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    onRcptTo({ address }, _session, done) {
      const refusal = answer(address)
      done(refusal && Object.assign(new Error(refusal.message), { responseCode: refusal.code }))
    },
    async onData(stream, { envelope }, done) {
      const message = await text(stream)
      for (const { address } of envelope.rcptTo) got(address, message)
      done()
    },
  })
  server.on('error', () => undefined) // of one connection: its client hears of it
  server.listen(port, '127.0.0.1')
  await once(server.server, 'listening')
  const bound = (server.server.address() as AddressInfo).port
  return {
    url: `smtp://127.0.0.1:${bound}`,
    port: bound,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}
