import { VirtualClock } from './src/testing/clock.ts'
import { EngineStore } from './src/testing/store.ts'
import { connect } from './src/store/postgres/open.ts'
import { placeOf } from './src/store/postgres/place.ts'
import { ServerConnection } from './src/store/postgres/connection.ts'
import { Subject } from './tests/support/subject.ts'
const place = placeOf('postgres://postgres@%2Fdev%2Fshm%2Fpgdev:5544/postgres?schema=s'+Date.now())
const clock = new VirtualClock()
const orig = ServerConnection.prototype.flight
let on=false
ServerConnection.prototype.flight = function(sent: any, wait?: any){ if(on) console.log('  FLIGHT', sent.map((s:any)=>s.text.replace(/\s+/g,' ').replace(/"s\d+"\./g,'').slice(0,110)).join(' || ')); return orig.call(this, sent, wait) } as any
const store = new EngineStore('pg', clock, () => connect(place, clock))
const subject = new Subject({store, time: store, close: () => store.close()})
const w = await subject.worker()
await subject.submit(); const [j0]=await subject.lease(w); await subject.succeed(j0!)
const step = async (name: string, f: ()=>Promise<any>) => { await f; console.log(name); on=true; const r = await f(); on=false; return r }
await step('submit', () => subject.submit())
const ask = subject.request(w)
const jobs = await step('lease', () => store.call('lease', ask))
await step('succeed', () => subject.succeed(jobs[0]))
const asked = subject.ask(w); await subject.settle()
await step('submit with a worker waiting', () => subject.submit())
await step('tick', async () => store.tick())
await step('submit keyed', () => subject.submit({idempotencyKey: 'a'}))
await subject.submitMany({}, [1,2,3,4])
const more = await store.call('lease', subject.request(w))
await step('succeed 4', () => Promise.all(more.map((j)=>subject.succeed(j))))
await store.close()
