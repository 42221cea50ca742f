import { after } from 'node:test'
import './bundled.ts'

// Loaded into each test file's process by tests/run.ts.

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
