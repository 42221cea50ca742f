import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { audit, auditOrder } from '../../src/store/sqlite/audit.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { contract } from './contract.ts'

/** The contract on a file in its storage thread, whose rules between rows, and order, hold at the end of each test. */
export function contractOnFile(name: string, options: { driver?: string } = {}): void {
  const open = async () => {
    const folder = temporaryFolder()
    const path = folder.file('jobs.db')
    const store = await SqliteStore.open(path, options)
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
  }
  contract(name, open, { virtualTime: false })
}
