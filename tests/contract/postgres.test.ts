import { PostgresStore } from '../../src/store/postgres/store.ts'
import { contractOnServer } from './onserver.ts'

const open = async (url: string) => {
  const store = await PostgresStore.open(url)
  return { store, time: null, close: () => store.close() }
}
contractOnServer('PostgreSQL, in a storage thread', open, false)
