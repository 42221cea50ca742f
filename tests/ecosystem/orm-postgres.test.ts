import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { temporaryFolder } from '../support/folder.ts'
import { PostgresServer, without } from '../support/postgres.ts'

// The programs of docs/scaling.md in a project of their own, with the packages that they name, installed from the registry.

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/scaling.md'), 'utf8')
const programs = [...page.matchAll(/^##+ ([^\n]*)\n(?:(?!^##).*\n)*?```ts\n(import (?:.*\n)*?)```/gm)].map(
  ([, title, code]) => ({ title: title!, code: code! }),
)
const dependencies = {
  ...{ 'drizzle-orm': '0.45.4', kysely: '0.29.9', pg: '8.23.1' },
  ...{ prisma: '7.10.1', '@prisma/client': '7.10.0', '@prisma/adapter-pg': '7.10.1' },
}
const schema = `generator client {
  provider = "prisma-client"
  output   = "generated"
}
datasource db {
  provider = "postgresql"
}
model Order {
  id   Int    @id @default(autoincrement())
  item String
  @@map("orders")
}`

test('the programs of the page are found', () => {
  assert.deepEqual(programs.map(({ title }) => title), ['Jobs in your own transactions', 'Drizzle', 'Kysely', 'Prisma']) // biome-ignore format: one list
})

if (without) test('orders and their jobs on PostgreSQL', { skip: without })
else withServer(new PostgresServer())

function withServer(server: PostgresServer): void {
  const folder = temporaryFolder()
  after(() => server[Symbol.dispose]())
  after(() => folder[Symbol.dispose]())

  function run(name: string, file: string, ...args: string[]): string {
    // Of no use to a client; what would be downloaded otherwise, from another host than the registry.
    const env = {
      ...process.env,
      PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
      PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
    }
    return execFileSync(file, args, { cwd: folder.file(name), env, encoding: 'utf8', stdio: 'pipe', timeout: 240_000 })
  }

  test('packages are installed', () => {
    writeFileSync(folder.file('package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
    run('.', 'npm', 'install', '--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts')
    writeFileSync(folder.file('schema.prisma'), schema)
    run('.', 'npx', 'prisma', 'generate', '--schema', 'schema.prisma')
  })

  for (const [i, { title, code }] of programs.entries())
    test(`${title}: the order and its job are stored together, or neither`, () => {
      const database = `shop${i}`
      server.sql(`CREATE DATABASE ${database}`)
      const url = server.url('gopherqueue').replace(/\/postgres\?.*/, `/${database}`)
      const own = code
        .replace('postgres://app@localhost/shop', url)
        .replace("'./generated/", "'../generated/")
        .replace("'gopherqueue'", JSON.stringify(join(root, 'src/index.ts')))
      mkdirSync(folder.file(database))
      writeFileSync(folder.file(`${database}/shop.ts`), own)
      const failing = own.replace(
        /(receipt\.submitWith\(.*\))$/m,
        "$1\n  .then((): never => { throw new Error('no stock') })",
      )
      assert.notEqual(failing, own)
      writeFileSync(folder.file(`${database}/failing.ts`), failing)
      assert.equal(run(database, process.execPath, 'shop.ts'), 'receipt for order 1\n')
      assert.equal(run(database, process.execPath, 'shop.ts'), 'receipt for order 2\n')
      assert.throws(() => run(database, process.execPath, 'failing.ts'), /no stock/)
      assert.equal(server.sql('SELECT (SELECT COUNT(*) FROM orders), (SELECT COUNT(*) FROM gopherqueue.gq_jobs)', database), '2|2') // biome-ignore format: one line
    })
}
