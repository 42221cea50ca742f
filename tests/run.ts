// Runs test files, two at a time: node tests/run.ts FILE...
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build } from 'esbuild'
import { folder, root, threads } from './support/bundled.ts'

/** The program loads what it needs, when it needs it; a thread needs all of its file. */
async function bundle(names: string[], splitting: boolean): Promise<void> {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: names.map((name) => ({ in: `src/${name}.ts`, out: basename(name) })),
    outdir: folder,
    outExtension: { '.js': '.ts' }, // the threads are looked for by these names
    bundle: true,
    splitting,
    format: 'esm',
    platform: 'node',
    external: ['pg', 'commander', 'prom-client'], // CommonJS
    write: false,
  })
  for (const { path, text } of outputFiles) {
    if (existsSync(path) && readFileSync(path, 'utf8') === text) continue
    writeFileSync(`${path}.${process.pid}`, text)
    renameSync(`${path}.${process.pid}`, path) // another run may read it at this moment
  }
}

mkdirSync(folder, { recursive: true })
await bundle(['main'], true)
await bundle(threads, false)
process.env.TESTS_BUNDLED = folder

// Many tests start programs from source: to strip its types each time takes 0.7 s of CPU, from this cache 0.2 s. Node knows
// an entry by the content of its source.
process.env.NODE_COMPILE_CACHE = join(root, 'node_modules/.cache/node')
const args = ['--import', './tests/support/ends.ts', '--test', '--test-concurrency=2', ...process.argv.slice(2)]
process.exitCode = spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1
