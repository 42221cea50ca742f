import { GopherQueue } from 'gopherqueue'
import { signUpApp, welcomeMail } from './app.ts'
import { smtpSink } from './sink.ts'

// The app, its worker and a mail server to try them with, in one process. Addresses that begin with `nobody` have no
// mailbox there, and those that begin with `busy` are told to come back once.

const told = new Set<string>()
const sink = await smtpSink(
  0,
  (to) => {
    if (to.startsWith('nobody')) return { code: 550, message: 'No such mailbox' }
    if (!to.startsWith('busy') || told.has(to)) return undefined
    told.add(to)
    return { code: 421, message: 'Try again later' }
  },
  (to, message) => console.log(`delivered to ${to}: ${/^Subject: (.*)$/m.exec(message)?.[1]?.trim()}`),
)

const queue = await GopherQueue.open('./signup.db')
const app = signUpApp(welcomeMail(queue, process.env.SMTP_URL ?? sink.url))
queue.on('retrying', ({ id }, { message }, { runAt }) =>
  console.log(`mail ${id} is tried again at ${new Date(runAt ?? 0).toISOString()}: ${message}`),
)
queue.on('dead', ({ id }, { message }) => console.log(`mail ${id} is a dead letter: ${message}`))
queue.work()

const url = await app.listen({ port: Number(process.env.PORT ?? 0), host: '127.0.0.1' })
console.log(`Sign up:  curl ${url}/signup --json '{"email":"ada@example.com","name":"Ada"}'`)
console.log('Also try busy@example.com and nobody@example.com. Ctrl-C ends.')

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, async () => {
    await app.close() // no new sign-ups
    await queue.close() // running mails are finished first
    await sink.close()
    process.exit()
  })
