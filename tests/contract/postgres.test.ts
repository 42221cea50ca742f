import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { connect } from '../../src/store/postgres/open.ts'
import { placeOf } from '../../src/store/postgres/place.ts'
import { PostgresStore } from '../../src/store/postgres/store.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { PostgresServer, without } from '../support/postgres.ts'
import { contract } from './contract.ts'

if (without) test('on PostgreSQL', { skip: without })
else onPostgres()

function onPostgres(): void {
  const server = new PostgresServer()
  contract(
    'PostgreSQL, in a storage thread',
    async () => {
      const store = await PostgresStore.open(server.url())
      return { store, time: null, close: () => store.close() }
    },
    { virtualTime: false },
  )
  contract(
    'engine on PostgreSQL, virtual time',
    async () => {
      const clock = new VirtualClock()
      const place = placeOf(server.url())
      const store = new EngineStore('postgres', clock, () => connect(place, clock))
      return { store, time: store, close: () => store.close() }
    },
    { virtualTime: true },
  )
  test('PostgreSQL has understood each statement', () => assert.deepEqual(server.notUnderstood, []))
  after(() => server[Symbol.dispose]())
}
