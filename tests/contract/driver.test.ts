import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { audit, auditOrder } from '../../src/store/sqlite/audit.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { contract } from './contract.ts'

contract(
  "SQLite file in its storage thread, on the app's better-sqlite3",
  async () => {
    const folder = temporaryFolder()
    const path = folder.file('jobs.db')
    const store = await SqliteStore.open(path, { driver: import.meta.resolve('better-sqlite3') })
    return {
      store,
      time: null,
      async close() {
        await store.close()
        const file = new DatabaseSync(path) // a rule between rows, or the order, may be broken and no answer tell
        assert.deepEqual([...audit(file), auditOrder(file)].filter(({ broken }) => broken.length > 0), []) // biome-ignore format: one call
        file.close()
        folder[Symbol.dispose]()
      },
    }
  },
  { virtualTime: false },
)
