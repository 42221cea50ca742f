import { connect } from '../../src/store/postgres/open.ts'
import { placeOf } from '../../src/store/postgres/place.ts'
import { VirtualClock } from '../../src/testing/clock.ts'
import { EngineStore } from '../../src/testing/store.ts'
import { contractOnServer } from './onserver.ts'

const open = async (url: string) => {
  const clock = new VirtualClock()
  const place = placeOf(url)
  const store = new EngineStore('postgres', clock, () => connect(place, clock))
  return { store, time: store, close: () => store.close() }
}
contractOnServer('engine on PostgreSQL, virtual time', open, true)
