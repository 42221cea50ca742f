import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { build } from 'esbuild'
import { packedProject } from '../support/packed.ts'
import { run, workingApp } from './apps.ts'

// The packed package in the projects that people have: the quick part of `npm run test:ecosystem`.

const root = join(import.meta.dirname, '../..')
const { folder, project } = packedProject('commonjs', 'typescript54@npm:typescript@5.4.5', 'typescript59@npm:typescript@5.9.3', '@types/node@24.19.4') // biome-ignore format: one line
after(() => folder[Symbol.dispose]())

const typed = `import { GopherQueue, GopherQueueError, type Job, nextTimes, PermanentError } from 'gopherqueue'
import { slow, type TestQueue, testQueue, VirtualClock } from 'gopherqueue/testing'
class Refused extends PermanentError {}
export async function main(): Promise<void> {
  const queue: GopherQueue = await GopherQueue.open('./typed.db')
  const double = queue.define<number, number>('double', { timeout: '30s' }, async ({ payload }, { signal }) => {
    signal.throwIfAborted()
    if (payload < 0) throw new Refused('negative')
    return payload * 2
  })
  const { id } = await double.submit(21, { priority: 'high', delay: '5m' })
  const job: Job | null = await queue.job(id)
  const result: number = await double.wait(id).catch((error: unknown) => {
    if (error instanceof GopherQueueError && error.code === 'JOB_FAILED') return 0
    throw error
  })
  const tests: TestQueue = testQueue({ now: new Date() })
  const spare: GopherQueue = tests
  spare.define<number, number>('later', {}, slow('10s', ({ payload }) => payload * 2))
  console.log(job?.state, result, nextTimes, VirtualClock)
  // @ts-expect-error: not a number
  await double.submit('21')
  // @ts-expect-error: no such option
  await double.submit(21, { color: 'red' })
}
`
const tsc = (compiler: string): string => {
  const here = join(project, 'node_modules', compiler)
  return join(existsSync(here) ? here : join(root, 'node_modules', compiler), 'bin/tsc')
}
/** TypeScript 7 has no node10 any more. */
const compilers = { typescript54: ['node10', 'node16', 'nodenext', 'bundler'], typescript59: ['node10', 'node16', 'nodenext', 'bundler'], typescript: ['node16', 'nodenext', 'bundler'] } // biome-ignore format: one line
for (const [compiler, resolutions] of Object.entries(compilers))
  for (const moduleResolution of resolutions)
    test(`${compiler} finds the declarations under ${moduleResolution}`, () => {
      const at = join(project, `${compiler}-${moduleResolution}`)
      mkdirSync(at)
      const files = ['node10', 'bundler'].includes(moduleResolution) ? ['app.ts'] : ['app.cts', 'app.mts']
      for (const file of files) writeFileSync(join(at, file), typed)
      const module = { node10: 'commonjs', bundler: 'esnext' }[moduleResolution] ?? moduleResolution
      const options = { target: 'es2022', lib: ['es2022'], types: ['node'], module, moduleResolution, strict: true, skipLibCheck: false, noEmit: true } // biome-ignore format: one line
      writeFileSync(join(at, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files }))
      const { status, stdout } = spawnSync(process.execPath, [tsc(compiler), '-p', at], { encoding: 'utf8' })
      assert.deepEqual([status, stdout], [0, ''])
    })

/** Calls that do not compile, and the cause that the compiler has to name. */
const wrong: [call: string, cause: RegExp][] = [
  [`queue.define('a', { payload: schema, timout: '30s' }, () => 1)`, /'timout' does not exist in type/],
  [`queue.define('b', { payload: schema, timout: '30s' })`, /'timout' does not exist in type/],
  [
    `queue.define('c', { payload: schema }, () => ({ f: () => 1 }))`,
    /'JSON does not keep this of the result': \(\) => 1/,
  ],
  [`queue.define('d', () => ({ f: () => 1 }))`, /'JSON does not keep this of the result': \(\) => 1/],
  [`queue.define('e', ({ payload }: ActiveJob<{ at: Date }>) => payload.at.getTime())`, /'unknown' is not assignable to type '{ at: Date; }'/], // biome-ignore format: one line
  [`queue.define(jobType<{ a: number }, number>('f'), () => 'text')`, /'string' is not assignable to type 'number \| Promise<number>'/], // biome-ignore format: one line
  [`queue.define(jobType('g', { payload: schema }), { timeout: '1s' }, () => 1)`, /'timeout' does not exist in type 'HandlerOptions'/], // biome-ignore format: one line
  [`jobType('h', { payload: schema, timout: '1s' })`, /'timout' does not exist in type/],
]
for (const compiler of ['typescript59', 'typescript'])
  test(`${compiler} names the cause of a call of define or jobType that does not compile`, () => {
    const at = join(project, `${compiler}-wrong.mts`)
    const head = `import { type ActiveJob, type GopherQueue, jobType } from 'gopherqueue'; import type { StandardSchemaV1 } from '@standard-schema/spec'; declare const queue: GopherQueue; declare const schema: StandardSchemaV1<{ to: string }>` // biome-ignore format: one line
    writeFileSync(at, [head, ...wrong.map(([call]) => call)].join('\n'))
    const args = ['--strict', '--noEmit', '--pretty', 'false', '--target', 'es2022', '--module', 'nodenext', '--types', 'node', at] // biome-ignore format: one line
    const { stdout } = spawnSync(process.execPath, [tsc(compiler), ...args], { cwd: project, encoding: 'utf8' })
    const told = stdout.split(/^(?=\S)/m)
    for (const [i, [call, cause]] of wrong.entries()) {
      const error = told.filter((one) => one.includes(`wrong.mts(${i + 2},`)).join('')
      assert.match(error, cause, call)
    }
  })

const refused =
  /^GopherQueueError STORAGE_UNAVAILABLE The storage thread could not start .*--packages=external for esbuild.* -e gopherqueue for ncc;/

test('esbuild: a bundle in one file says at open what to write; with it, and with the threads beside, it works', async () => {
  const common = { bundle: true, platform: 'node', logLevel: 'silent', absWorkingDir: project } as const
  for (const format of ['esm', 'cjs'] as const) {
    const file = join(project, `app.${format === 'esm' ? 'mjs' : 'cjs'}`)
    writeFileSync(file, workingApp(format))
    await build({ ...common, format, entryPoints: [file], outfile: join(project, `one/${format}.${file.slice(-3)}`) })
    assert.match(run(project, `one/${format}.${file.slice(-3)}`), refused)
    await build({ ...common, format, entryPoints: [file], packages: 'external', outfile: join(project, `ext/${format}.${file.slice(-3)}`) }) // biome-ignore format: one line
    assert.equal(run(project, `ext/${format}.${file.slice(-3)}`), 'hello gopher\n')
  }
  const threads = ['store/sqlite/storage-thread', 'queue/handler-thread']
  const entryPoints = ['app.mjs', ...threads.map((name) => `node_modules/gopherqueue/dist/${name}.js`)]
  const outdir = join(project, 'beside')
  await build({ ...common, format: 'esm', entryPoints, outdir, entryNames: '[name]' })
  cpSync(join(outdir, 'app.js'), join(outdir, 'app.mjs'))
  writeFileSync(join(outdir, 'package.json'), '{ "type": "module" }')
  assert.equal(run(project, 'beside/app.mjs'), 'hello gopher\n')
})

test('CommonJS requires both entries, and gets the same classes as an import', () => {
  writeFileSync(
    join(project, 'both.cjs'),
    `const { GopherQueue } = require('gopherqueue'); const { TestQueue } = require('gopherqueue/testing')
    import('gopherqueue').then((esm) => console.log(esm.GopherQueue === GopherQueue, TestQueue.prototype instanceof GopherQueue))`,
  )
  assert.equal(run(project, 'both.cjs'), 'true true\n')
})

test('an older Node gets one sentence and no stack, from import and require alike', () => {
  const old = join(project, 'old.cjs')
  writeFileSync(old, `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.23.3' } })`)
  for (const entry of ['gopherqueue', 'gopherqueue/testing'])
    for (const [file, text] of [
      ['old.mjs', `import '${entry}'`],
      ['require.cjs', `require('${entry}')`],
    ] as const) {
      writeFileSync(join(project, file), text)
      const { status, stderr } = spawnSync(process.execPath, ['-r', old, file], { cwd: project, encoding: 'utf8' })
      assert.equal(status, 1)
      assert.match(stderr, /GopherQueueError\]?: Node 24 or newer is needed; this is 22\.23\.3\. Nothing was opened/)
      assert.doesNotMatch(stderr, /\n {4}at /)
    }
})
