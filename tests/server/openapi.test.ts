import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, existsSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'

const tools = join(import.meta.dirname, '../../docs/openapi') // with a TypeScript that its generator knows
const run = async (command: string, ...args: string[]) => (await promisify(execFile)(command, args)).stdout
const bin = (name: string) => join(tools, 'node_modules/.bin', name)

test('a public linter finds nothing in the OpenAPI document, and a client generated from it submits and works a job', async () => {
  if (!existsSync(bin('openapi-typescript'))) await run('npm', 'ci', '--silent', '--prefix', tools)
  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'), { tends: true })
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  try {
    const document = folder.file('openapi.json')
    writeFileSync(document, await (await fetch(`${server.url}/openapi.json`)).text())
    assert.equal(await run(process.execPath, join(tools, 'lint.js'), document), '')

    symlinkSync(join(tools, 'node_modules'), folder.file('node_modules'))
    writeFileSync(folder.file('package.json'), '{ "type": "module" }')
    copyFileSync(join(tools, 'client.ts'), folder.file('client.ts'))
    await run(bin('openapi-typescript'), document, '-o', folder.file('api.d.ts'))
    const settings =
      '--noEmit --strict --module nodenext --target es2024 --skipLibCheck --allowImportingTsExtensions --types node'
    const types = ['--typeRoots', join(tools, '../../node_modules/@types')]
    await run(bin('tsc'), ...settings.split(' '), ...types, folder.file('client.ts'))
    const told = await run(process.execPath, folder.file('client.ts'), server.url)
    assert.deepEqual(JSON.parse(told), ['succeeded', 42, 'order-1', 'INVALID_STATE', 'no'])
  } finally {
    await server.close()
  }
})
