import { type FastifyInstance, fastify } from 'fastify'
import { type GopherQueue, GopherQueueError } from 'gopherqueue'
import { createTransport } from 'nodemailer'
import { z } from 'zod'

// A sign-up that mails. The request is answered when the mail is a job on disk: a mail server that is down, slow or
// greylisting delays the mail, never the user, and a crash loses neither.

const Welcome = z.object({ to: z.email().max(254), name: z.string().min(1).max(100) })

/** The job. `smtp` is a URL such as smtp://user:password@mail.example.com:587 */
export function welcomeMail(queue: GopherQueue, smtp: string) {
  const transport = createTransport({ url: smtp, connectionTimeout: 10_000, socketTimeout: 20_000 })
  return queue.define(
    'welcome mail',
    {
      payload: Welcome,
      timeout: '1m', // longer than the mail client's own
      maxAttempts: 20,
      backoff: { kind: 'exponential', delay: '1s', factor: 3, max: '1h' }, // 20 attempts are 14 hours
      classify: refusedForGood,
    },
    async ({ id, payload: { to, name } }) => {
      const { messageId } = await transport.sendMail({
        from: 'Gopher <hello@example.com>',
        to: { name, address: to },
        subject: `Welcome, ${name}`,
        text: `Dear ${name},\n\ngood to have you here.\n`,
        // At least once: after a crash a mail can go out again. The same Message-ID lets mail systems know it as the same.
        messageId: `<welcome-${id}@example.com>`,
      })
      return { messageId }
    },
  )
}

/** 5xx is the mail server's last word on this mail: a dead letter. Wrong credentials are ours to mend: those are retried. */
function refusedForGood(error: unknown): 'permanent' | undefined {
  const { responseCode = 0, code } = error as { responseCode?: number; code?: string }
  return responseCode >= 500 && code !== 'EAUTH' ? 'permanent' : undefined
}

export function signUpApp(mail: ReturnType<typeof welcomeMail>): FastifyInstance {
  const app = fastify()

  app.post('/signup', async ({ body }, reply) => {
    const { email, name } = (body ?? {}) as { email: string; name: string } // the job's schema checks them
    const { id, duplicate } = await mail.submit(
      { to: email, name },
      { idempotencyKey: String(email).toLowerCase(), idempotencyWindow: '30d' }, // a form sent twice mails once
    )
    return reply.code(202).send({ mail: id, duplicate })
  })

  app.setErrorHandler((error: Error, _request, reply) => {
    if (!(error instanceof GopherQueueError)) return reply.send(error)
    return reply.code(statusOf(error)).send({ error: error.code, message: error.message })
  })
  return app
}

function statusOf({ code }: GopherQueueError): number {
  if (code === 'INVALID_PAYLOAD') return 400
  if (code === 'IDEMPOTENCY_CONFLICT') return 409 // the same address under another name
  return 503 // the queue cannot store it now: QUEUE_FULL, OVERLOADED, STORAGE_FULL, ...
}
