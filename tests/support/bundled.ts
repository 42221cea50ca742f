import { syncBuiltinESMExports } from 'node:module'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import workers, { type WorkerOptions } from 'node:worker_threads'

// To load the 120 modules of the engine takes each storage thread 0.1 s of CPU, the 200 of the command line each process 0.15 s,
// and the tests start thousands of them: tests/run.ts makes a bundle of them, once a run.

export const root = join(import.meta.dirname, '../..')
/** As deep as the folders of src, from where the command line finds package.json and dist. */
export const folder = join(root, 'tmp/bundled')
export const threads = ['store/sqlite/storage-thread', 'store/postgres/postgres-thread', 'store/postgres/client-thread']
const isThere = process.env.TESTS_BUNDLED === folder

/** The program of the command line. */
export const main = join(isThere ? folder : join(root, 'src'), 'main.ts')

/** Flags of a process that runs a program of the tests: its storage threads, as those of this process, are of the bundle. */
export const preload = isThere ? ['--import', import.meta.url] : []

if (isThere) {
  const bundled = new Map(threads.map((name) => [join(root, `src/${name}.ts`), join(folder, `${basename(name)}.ts`)]))
  workers.Worker = class extends workers.Worker {
    constructor(file: string | URL, options?: WorkerOptions) {
      const path = file instanceof URL && file.protocol === 'file:' && bundled.get(fileURLToPath(file))
      super(path || file, options)
    }
  }
  syncBuiltinESMExports()
}
