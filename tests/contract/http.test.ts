import { setImmediate } from 'node:timers/promises'
import { systemClock } from '../../src/model/clock.ts'
import { serve } from '../../src/server/server.ts'
import { HttpStore } from '../../src/store/http/store.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { contract } from './contract.ts'

/** Requests that this process has sent and not heard all of. */
let open = 0
const { fetch } = globalThis
globalThis.fetch = async (...given) => {
  open++
  try {
    const response = await fetch(...given)
    const json = response.json.bind(response)
    return Object.defineProperty(response, 'json', { value: () => json().finally(() => open--) })
  } catch (error) {
    open--
    throw error
  }
}

contract(
  'over HTTP',
  async () => {
    const folder = temporaryFolder()
    const server = await serve(await SqliteStore.open(folder.file('jobs.db'), { tends: true }), {
      port: 0,
      logLevel: 'silent',
    })
    const before = open
    const store = await HttpStore.open(server.url, {}, systemClock)
    return {
      store,
      time: null,
      renews: true,
      async settled() {
        while (open - before !== server.waiting) await setImmediate()
      },
      async close() {
        await store.close()
        await server.close()
        folder[Symbol.dispose]()
      },
    }
  },
  { virtualTime: false, remote: true },
)
