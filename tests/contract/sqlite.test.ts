import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { contract } from './contract.ts'

contract(
  'SQLite file in its storage thread',
  async () => {
    const folder = temporaryFolder()
    const store = await SqliteStore.open(folder.file('jobs.db'))
    return {
      store,
      time: null,
      async close() {
        await store.close()
        folder[Symbol.dispose]()
      },
    }
  },
  { virtualTime: false },
)
