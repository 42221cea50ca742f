import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { typeErrorsOf } from './support/blocks.ts'
import { temporaryFolder } from './support/folder.ts'

// Our side of docs/migrate.md: its blocks, and the calls in the right column of its tables.

const root = join(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/migrate.md'), 'utf8')
const blocks = [...page.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]!)
const standIn = fileURLToPath(import.meta.resolve('./support/other-queues.ts'))
const places = { gopherqueue: join(root, 'src/index.ts'), bullmq: standIn, 'pg-boss': standIn }

/** Code in the third column that calls something. */
const calls = [...page.matchAll(/^\|.*\|.*\|(.*)\|$/gm)].flatMap(([, ours]) =>
  [...ours!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!).filter((code) => /\(/.test(code)),
)

/** Runs a program in a folder; answers its exit status and what it printed. */
function run(program: string, folder: { file(name: string): string }) {
  let source = program
  for (const [name, place] of Object.entries(places)) source = source.replaceAll(`'${name}'`, JSON.stringify(place))
  writeFileSync(folder.file('program.ts'), source)
  writeFileSync(folder.file('compute.js'), 'export default () => null\n') // the module that the tables name
  const options = { cwd: folder.file('.'), encoding: 'utf8', timeout: 30_000 } as const
  const { status, stdout, stderr } = spawnSync(process.execPath, ['program.ts'], options)
  return { status, printed: stdout + stderr }
}

function prints(program: string, expected: string | RegExp): void {
  using folder = temporaryFolder()
  const { status, printed } = run(program, folder)
  if (typeof expected === 'string') assert.equal(printed, expected)
  else assert.match(printed, expected)
  assert.equal(status, 0)
}

/** All calls of the tables, each in a scope of its own and, where it asks for one, with a job that it fits. */
function programOf(codes: string[]): string {
  const scopes = codes
    .filter((code) => code !== 'await queue.close()')
    .map((code) => {
      const state = /\.(retry|remove)\(/.test(code) ? 'cancelled' : /\.wait\(/.test(code) ? 'succeeded' : 'scheduled'
      const id = /\bid\b/.test(code) && !code.startsWith('queue.on') ? `const id = await jobThatIs('${state}')\n` : ''
      if (code.startsWith('throw')) return `try { ${code} } catch (error) { if (!isOurs(error)) throw error }`
      return `{ ${id}${code} }`
    })
  return `
    import { DatabaseSync } from 'node:sqlite'
    import { type Context, GopherQueue, PermanentError, TemporaryError } from 'gopherqueue'
    const queue = await GopherQueue.open('./jobs.db')
    const data = { to: 'ada@example.com' }
    const mail = queue.define<typeof data, string>('mail', {}, () => 'sent')
    const held = Promise.withResolvers<void>()
    const context = await new Promise<Context>((resolve) => {
      queue.define('hold', {}, (_job, context) => (resolve(context), held.promise))
      queue.work()
      void queue.submit('hold', null)
    })
    const worker = queue.work() // another one, so that its stop does not wait for 'hold'
    const db = new DatabaseSync('./jobs.db', { timeout: 5000 })
    db.exec('PRAGMA synchronous = FULL; PRAGMA fullfsync = 1')
    await mail.schedule('nightly', '0 3 * * *', data)
    const isOurs = (error: unknown) => error instanceof PermanentError || error instanceof TemporaryError
    async function jobThatIs(state: 'scheduled' | 'succeeded' | 'cancelled') {
      const { id } = await mail.submit(data, state === 'succeeded' ? {} : { delay: '1d' })
      if (state === 'succeeded') await mail.wait(id)
      if (state === 'cancelled') await queue.cancel(id)
      return id
    }
    ${scopes.join('\n')}
    held.resolve()
    db.close()
    await queue.close()
    console.log('done')`
}

test('the BullMQ program, made ours, works its mail', () => {
  prints(blocks[0]!, '"sent to ada@example.com"\n')
})

test('the pg-boss program, made ours, works its mail', () => {
  prints(blocks[1]!, 'sent to ada@example.com\n')
})

test('delayed jobs of BullMQ are moved, and moved once when the script was cut off', () => {
  using folder = temporaryFolder()
  const first = run(blocks[2]!, folder)
  assert.deepEqual(first, { status: 0, printed: 'welcome 1 is moved\nwelcome 2 is moved\n' })
  const again = run(blocks[2]!, folder) // the stand-in has forgotten that they were removed
  assert.deepEqual(again, { status: 0, printed: 'welcome 1 was moved before\nwelcome 2 was moved before\n' })
  using db = new DatabaseSync(folder.file('jobs.db'))
  const moved = db.prepare('SELECT queue, type, state, max_attempts, payload FROM gq_jobs ORDER BY id').all()
  const [queue, type, state, max_attempts] = ['mail', 'welcome', 'scheduled', 5]
  const payloads = ['{"to":"1"}', '{"to":"2"}']
  assert.deepEqual(
    moved.map((row) => ({ ...row })),
    payloads.map((payload) => ({ queue, type, state, max_attempts, payload })),
  )
})

test('jobs of pg-boss are moved, all of them', () => {
  using folder = temporaryFolder()
  assert.deepEqual(run(blocks[3]!, folder), { status: 0, printed: '100 jobs are moved\n5 jobs are moved\n' })
  using db = new DatabaseSync(folder.file('app.db'))
  const moved = db.prepare('SELECT state, max_attempts, COUNT(*) AS jobs FROM gq_jobs GROUP BY 1, 2').all()
  assert.deepEqual(
    moved.map((row) => ({ ...row })),
    [{ state: 'scheduled', max_attempts: 5, jobs: 105 }],
  )
  assert.equal(blocks.length, 4, 'a block without a test')
})

test('each call of the tables runs', () => {
  assert.ok(calls.length > 50, String(calls.length))
  prints(programOf(calls), /done\n$/)
})

test('a call that does not hold would be noticed', () => {
  using folder = temporaryFolder()
  const wrong = run(programOf([...calls, 'await queue.pause(17)']), folder)
  assert.match(wrong.printed, /INVALID_ARGUMENT/)
})

test('the types of all that is ours hold', () => {
  assert.equal(typeErrorsOf([...blocks, programOf(calls)], places), '')
  assert.match(typeErrorsOf([programOf([...calls, 'await mail.submit(17)'])], places), /error TS2345/)
})
