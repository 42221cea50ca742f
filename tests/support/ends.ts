import { enableCompileCache, getCompileCacheDir } from 'node:module'
import { join } from 'node:path'
import { after } from 'node:test'

// Loaded into each test file's process by `npm test`.

// Hundreds of tests start the command line: to strip the types of its sources each time takes 0.7 s of CPU, from this
// cache 0.2 s. Node knows an entry by the content of its source.
enableCompileCache(join(import.meta.dirname, '../../node_modules/.cache/node'))
process.env.NODE_COMPILE_CACHE = getCompileCacheDir()

// A test that fails may leave a queue or a server open, which would keep
// its process alive and `node --test` waiting for ever: its own timeout ends tests, not processes.

const patience = 30_000

if (process.env.NODE_TEST_CONTEXT === 'child-v8')
  after(() => {
    const end = () => {
      console.error(
        `The tests of this file ended ${patience} ms ago, and its process goes on: ${process.getActiveResourcesInfo()}`,
      )
      process.exit(1)
    }
    setTimeout(end, patience).unref()
  })
