import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { smtpSink } from '../../examples/signup/sink.ts'
import { GopherQueue } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Example, folderOf } from './support.ts'
import '../../examples/from-source.ts'

const { signUpApp, welcomeMail } = await import('../../examples/signup/app.ts')

const post = (url: string, form: object) =>
  fetch(`${url}/signup`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(form),
  }).then(async (response) => ({ status: response.status, ...((await response.json()) as { mail?: number }) }))

/** The app on a free port, mailing to `smtp`. */
async function app(t: TestContext, smtp: string) {
  const folder = temporaryFolder()
  const queue = await GopherQueue.open(folder.file('signup.db'))
  const mail = welcomeMail(queue, smtp)
  const server = signUpApp(mail)
  t.after(async () => {
    await server.close()
    await queue.close()
    folder[Symbol.dispose]()
  })
  return { queue, mail, url: await server.listen({ port: 0, host: '127.0.0.1' }) }
}

test('npm run example signup: one mail goes out, one after a 421, one is a dead letter', async (t) => {
  const folder = folderOf()
  const example = new Example(t, 'signup', folder)
  const [, url] = await example.prints(/curl (\S+)\/signup/)
  const { mail: nobody } = await post(url!, { email: 'nobody@example.com', name: 'Nobody' })
  await post(url!, { email: 'ada@example.com', name: 'Ada' })
  const { mail: busy } = await post(url!, { email: 'busy@example.com', name: 'Bea' })
  await example.prints(/delivered to ada@example.com: Welcome, Ada\n/)
  await example.prints(/delivered to busy@example.com: Welcome, Bea\n/)
  assert.match(example.output, /^mail \d+ is tried again at .*421 Try again later$/m)
  assert.match(example.output, /^mail \d+ is a dead letter: .*550 No such mailbox$/m)
  assert.equal(await example.end('SIGTERM'), 0, example.complaints)

  await using queue = await GopherQueue.open(join(folder, 'signup.db'))
  const ends = await Promise.all([nobody!, busy!].map((id) => queue.job(id)))
  assert.deepEqual(
    ends.map((job) => [job?.state, job?.reason, job?.attempt]),
    [
      ['dead', 'permanent', 1],
      ['succeeded', null, 2],
    ],
  )
  assert.equal(example.output.match(/^delivered/gm)!.length, 2)
})

test('with the mail server down, sign-ups are taken, and mailed when it is back', async (t) => {
  const placeholder = await smtpSink(0, () => undefined, assert.fail)
  await placeholder.close() // its port is free again: connections to it are refused
  const { queue, mail, url } = await app(t, placeholder.url)
  queue.work()
  const refused = once(queue, 'retrying')
  const answer = await post(url, { email: 'ada@example.com', name: 'Ada' })
  assert.equal(answer.status, 202)
  const [, error] = await refused
  assert.match(error.message, /ECONNREFUSED/)

  const mails: string[] = []
  const sink = await smtpSink(
    placeholder.port,
    () => undefined,
    (to, message) => mails.push(`${to}\n${message}`),
  )
  t.after(() => sink.close())
  assert.deepEqual(await mail.wait(answer.mail!), { messageId: `<welcome-${answer.mail}@example.com>` })
  assert.equal(mails.length, 1)
  assert.match(mails[0]!, /^ada@example\.com\n/)
  assert.match(mails[0]!, new RegExp(`^Message-ID: <welcome-${answer.mail}@example.com>`, 'im'))
  assert.match(mails[0]!, /^Dear Ada,/m)
})

test('a form sent twice mails once; what is no address is refused and stores nothing', async (t) => {
  const { queue, url } = await app(t, 'smtp://127.0.0.1:1')
  const first = await post(url, { email: 'ada@example.com', name: 'Ada' })
  const again = await post(url, { email: 'ada@example.com', name: 'Ada' })
  assert.deepEqual(again, { ...first, duplicate: true })
  const { status } = await post(url, { email: 'ada@example.com', name: 'Eve' })
  assert.equal(status, 409)
  for (const form of [{ email: 'ada', name: 'Ada' }, { name: 'Ada' }, { email: 'bob@example.com' }]) {
    const answer = await post(url, form)
    assert.deepEqual([answer.status, 'error' in answer && answer.error], [400, 'INVALID_PAYLOAD'])
  }
  await queue.configure('default', { maxDepth: 1 })
  const { status: full } = await post(url, { email: 'bob@example.com', name: 'Bob' })
  assert.equal(full, 503)
  assert.equal((await queue.jobs()).jobs.length, 1)
})
