import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { temporaryFolder } from '../support/folder.ts'

// The blocks of docs/orm.md as programs of their own, with the packages that they name, installed from the registry.

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/orm.md'), 'utf8')
const blocks = [...page.matchAll(/^## ([^\n]*)\n(.*?)(?=^## |(?![\s\S]))/gms)].flatMap(([, title, text]) =>
  [...text!.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => ({ title: title!, code: code! })),
)
const versions = {
  'better-sqlite3': '13.2.0',
  'drizzle-kit': '0.31.11',
  'drizzle-orm': '0.45.4',
  knex: '3.3.0',
  kysely: '0.29.9',
}

/** Its addon comes with the package: to build it would ask for Node's headers. */
const project = { private: true, type: 'module', dependencies: versions, allowScripts: { 'better-sqlite3': false } }

const folder = temporaryFolder()
after(() => folder[Symbol.dispose]())

/** Runs a program in a folder of its own beside the installed packages; answers what it printed. */
async function run(name: string, ...command: string[]): Promise<string> {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` }
  const [file, ...args] = command
  const { stdout } = await promisify(execFile)(file!, args, { cwd: folder.file(name), env, timeout: 240_000 })
  return stdout
}

function write(name: string, files: Record<string, string>): void {
  mkdirSync(folder.file(name), { recursive: true })
  for (const [file, text] of Object.entries(files))
    writeFileSync(
      folder.file(`${name}/${file}`),
      text.replaceAll("'gopherqueue'", JSON.stringify(join(root, 'src/index.ts'))),
    )
}

before(async () => {
  write('.', { 'package.json': JSON.stringify(project) })
  await run('.', 'npm', 'install', '--no-audit', '--no-fund', '--no-package-lock')
})

const programs = blocks.filter(({ code }) => code.includes('GopherQueue.open'))
for (const { title, code } of programs)
  test(`${title}: the order and its job are stored together`, async () => {
    write(title, { 'shop.ts': code })
    assert.equal(await run(title, process.execPath, 'shop.ts'), 'receipt for order 1\n')
    assert.equal(await run(title, process.execPath, 'shop.ts'), 'receipt for order 2\n')
  })

for (const { title, code } of programs)
  test(`${title}: a transaction that fails leaves neither`, async () => {
    const name = `${title}, failing`
    const failing = code
      .replace(/return (receipt\.submitWith\(.*\))(.*)/, "$1\n  throw new Error('no stock')$2")
      .replace('await queue.close()', '')
    assert.notEqual(failing, code.replace('await queue.close()', ''))
    const counts = `
      const { DatabaseSync } = await import('node:sqlite')
      const file = new DatabaseSync('shop.db', { readOnly: true })
      for (const table of ['orders', 'gq_jobs']) console.log(file.prepare('SELECT COUNT(*) AS n FROM ' + table).get().n)`
    write(name, { 'shop.ts': failing, 'counts.mjs': counts })
    await assert.rejects(run(name, process.execPath, 'shop.ts'), /no stock/)
    assert.equal(await run(name, process.execPath, 'counts.mjs'), '0\n0\n')
  })

test('drizzle-kit push leaves the tables of the queue alone with the filter of the page, and drops them without', async () => {
  const config = blocks.find(({ code }) => code.includes('tablesFilter'))!.code
  const schema = (columns: string) =>
    `import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
     export const orders = sqliteTable('orders', { id: integer().primaryKey(), item: text().notNull()${columns} })`
  const tables = `
    import Database from 'better-sqlite3'
    console.log(new Database('shop.db').prepare("SELECT name FROM sqlite_schema WHERE name IN ('gq_jobs', 'orders') AND type = 'table' ORDER BY name").pluck().all().join())`
  write('push', {
    'drizzle.config.ts': config,
    'without.config.ts': config.replace(/.*tablesFilter.*\n/, ''),
    'schema.ts': schema(''),
    'tables.mjs': tables,
    'open.ts': `import { GopherQueue } from 'gopherqueue'
      const queue = await GopherQueue.open('shop.db', { driver: import.meta.resolve('better-sqlite3') })
      await queue.submit('work', 1)
      await queue.close()`,
  })
  const kit = join(folder.file('.'), 'node_modules/drizzle-kit/bin.cjs')
  await run('push', process.execPath, 'open.ts')
  await run('push', process.execPath, kit, 'push', '--force')
  assert.equal(await run('push', process.execPath, 'tables.mjs'), 'gq_jobs,orders\n')
  write('push', { 'schema.ts': schema(', note: text()') })
  await run('push', process.execPath, kit, 'push', '--force')
  await run('push', process.execPath, 'open.ts')
  await run('push', process.execPath, kit, 'push', '--force', '--config', 'without.config.ts')
  assert.equal(await run('push', process.execPath, 'tables.mjs'), 'orders\n')
})

test('each program of the page was run', () => {
  assert.deepEqual(programs.map(({ title }) => title), ['better-sqlite3', 'Drizzle, on better-sqlite3', 'Drizzle, on node:sqlite', 'Kysely', 'Knex']) // biome-ignore format: one list
})
