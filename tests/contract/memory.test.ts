import { EngineStore } from '../../src/testing/store.ts'
import { contract } from './contract.ts'

contract(
  'engine in memory, virtual time',
  async () => {
    const store = new EngineStore()
    return { store, time: store, close: () => store.close() }
  },
  { virtualTime: true },
)
