import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { packedProject } from '../support/packed.ts'
import { run, workingApp } from './apps.ts'

// What docs/bundlers.md says of each bundler, framework and test runner, done with the packed package: minutes, and a
// registry. `npm run test:ecosystem` runs it.

const packages = ['tsup@9.0.0', 'typescript@5.9.3', 'webpack@5.113.0', 'webpack-cli@7.3.1', 'vite@8.3.8', 'rollup@4.68.8', '@rollup/plugin-node-resolve@16.0.3', '@rollup/plugin-commonjs@29.0.3', '@rollup/plugin-json@6.1.0', 'jest@30.5.2', 'vitest@5.1.2', 'node20@npm:node@20.18.1', 'node22@npm:node@22'] // biome-ignore format: one line
const { folder, project } = packedProject('commonjs', ...packages)
after(() => folder[Symbol.dispose]())

const write = (file: string, text: string) => {
  mkdirSync(join(project, dirname(file)), { recursive: true })
  writeFileSync(join(project, file), text)
}
const tool = (name: string, ...args: string[]) =>
  execFileSync(process.execPath, [join(project, 'node_modules', name), ...args], { cwd: project, stdio: 'pipe' })
write('app.mjs', workingApp('esm'))
const refused =
  /^GopherQueueError STORAGE_UNAVAILABLE The storage thread could not start .*docs\/bundlers\.md shows each\.\n/
const works = /^hello gopher\n$/

test('tsup', () => {
  for (const [name, options, expected] of [
    ['default', '', works],
    ['bundled', 'noExternal: [/.*/],', refused],
  ] as const) {
    write('tsup.config.mjs', `export default { entry: ['app.mjs'], format: ['esm'], ${options} outDir: 'tsup-${name}', target: 'node24' }`) // biome-ignore format: one line
    tool('tsup/dist/cli-default.js')
    assert.match(run(project, `tsup-${name}/app.mjs`), expected)
  }
})

test('webpack, into an ES module and into CommonJS', () => {
  const esm = `experiments: { outputModule: true }, output: { filename: 'app.mjs', module: true, library: { type: 'module' }, path: __dirname + '/webpack-`
  const cjs = `output: { filename: 'app.cjs', path: __dirname + '/webpack-`
  const kinds = [
    ['esm/app.mjs', `${esm}esm' }`, refused],
    ['cjs/app.cjs', `${cjs}cjs' }`, refused],
    ['esm-ext/app.mjs', `externals: { gopherqueue: 'module gopherqueue' }, ${esm}esm-ext' }`, works],
    ['cjs-ext/app.cjs', `externals: { gopherqueue: 'commonjs gopherqueue' }, ${cjs}cjs-ext' }`, works],
  ] as const
  const common = `entry: './app.mjs', target: 'node24', mode: 'production'`
  write('webpack.config.cjs', `module.exports = [${kinds.map(([, options]) => `{ ${common}, ${options} }`)}]`)
  tool('webpack/bin/webpack.js')
  for (const [file, , expected] of kinds) assert.match(run(project, `webpack-${file}`), expected)
})

test('Vite SSR', () => {
  for (const [name, ssr, expected] of [
    ['default', '{}', works],
    ['bundled', '{ noExternal: true }', refused],
    ['external', `{ noExternal: true, external: ['gopherqueue'] }`, works],
  ] as const) {
    write('vite.config.mjs', `export default { ssr: ${ssr}, build: { ssr: 'app.mjs', outDir: 'vite-${name}', rolldownOptions: { output: { entryFileNames: 'app.mjs' } } } }`) // biome-ignore format: one line
    tool('vite/bin/vite.js', 'build')
    assert.match(run(project, `vite-${name}/app.mjs`), expected)
  }
})

test('Rollup', () => {
  for (const [name, external, expected] of [
    ['bundled', '[]', refused],
    ['external', `['gopherqueue']`, works],
  ] as const) {
    write('rollup.config.mjs', `import { nodeResolve } from '@rollup/plugin-node-resolve'
      import commonjs from '@rollup/plugin-commonjs'
      import json from '@rollup/plugin-json'
      const plugins = [nodeResolve({ preferBuiltins: true }), commonjs(), json()]
      export default { input: 'app.mjs', external: ${external}, plugins, output: { dir: 'rollup-${name}', entryFileNames: 'app.mjs' } }`) // biome-ignore format: one text
    tool('rollup/dist/bin/rollup', '-c')
    assert.match(run(project, `rollup-${name}/app.mjs`), expected)
  }
})

const body = (
  expect: string,
) => `${expect}test('retried until it works', async () => { const queue = testQueue(); const task = queue.define('c', {}, fail(3, 'busy', () => 'charged'))
  const { id } = await task.submit(1); await queue.advance('1h'); expect((await queue.job(id)).state).toBe('succeeded'); await queue.close() })
test('a queue with its thread', async () => { const queue = await GopherQueue.open(':memory:'); const task = queue.define('c', {}, () => 5)
  const { id } = await task.submit(1); queue.work(); expect(await task.wait(id)).toBe(5); await queue.close() })\n`
const imports = `import { GopherQueue } from 'gopherqueue'\nimport { fail, testQueue } from 'gopherqueue/testing'\n`
const requires = `const { GopherQueue } = require('gopherqueue')\nconst { fail, testQueue } = require('gopherqueue/testing')\n`

test('jest in CommonJS and in ES modules, and vitest', () => {
  write('jest/cjs.test.js', body(requires))
  write('jest/esm.test.mjs', body(imports))
  write('jest.config.cjs', `module.exports = { transform: {}, testMatch: ['**/jest/*.test.{js,mjs}'] }`)
  const env = { ...process.env, NODE_OPTIONS: '--experimental-vm-modules' }
  const jest = spawnSync(process.execPath, ['node_modules/jest/bin/jest.js'], { cwd: project, env, encoding: 'utf8' })
  assert.match(jest.stderr, /Tests: +4 passed, 4 total/)
  const bare = spawnSync(process.execPath, ['node_modules/jest/bin/jest.js', 'cjs'], { cwd: project, encoding: 'utf8' })
  assert.match(bare.stderr, /without a flag: NODE_OPTIONS=--experimental-vm-modules npx jest\. Nothing was opened\./)
  write('vitest/a.test.mjs', body(`import { expect, test } from 'vitest'\n${imports}`))
  const vitest = spawnSync(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', 'vitest'], { cwd: project, encoding: 'utf8' }) // biome-ignore format: one line
  assert.match(vitest.stdout, /Tests.*2 passed/, vitest.stdout + vitest.stderr)
})

test('Node 20 and 22 get one sentence and no stack', () => {
  write('import.mjs', `import 'gopherqueue'`)
  write('require.cjs', `require('gopherqueue')`)
  for (const node of ['node20', 'node22'])
    for (const file of ['import.mjs', 'require.cjs', 'node_modules/gopherqueue/dist/main.js']) {
      const { status, stderr } = spawnSync(join(project, 'node_modules', node, 'bin/node'), [file], { cwd: project, encoding: 'utf8' }) // biome-ignore format: one line
      assert.equal(status, 1)
      assert.match(stderr, /Node 24 or newer is needed; this is 2[02]\./)
      assert.doesNotMatch(stderr, /\n {4}at /)
    }
})
