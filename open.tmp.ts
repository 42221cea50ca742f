import { VirtualClock } from './src/testing/clock.ts'
import { EngineStore } from './src/testing/store.ts'
import { connect } from './src/store/postgres/open.ts'
import { placeOf } from './src/store/postgres/place.ts'
import { ServerConnection } from './src/store/postgres/connection.ts'
import { Subject } from './tests/support/subject.ts'
const url = () => placeOf('postgres://postgres@%2Fdev%2Fshm%2Fpgdev:5544/postgres?schema=s'+Date.now())
const clock = new VirtualClock()
let t=performance.now()
const lap=(s:string)=>{console.log(s,(performance.now()-t).toFixed(1));t=performance.now()}
for (let i=0;i<4;i++){
const place=url()
const c=new ServerConnection(place); lap('connect')
for(let j=0;j<10;j++) c.flight([{text:'SELECT 1',values:[]}]); lap('10 selects')
c.close(); lap('close')
const store = new EngineStore('pg', clock, () => connect(place, clock)); lap('open with schema')
const store2 = new EngineStore('pg', clock, () => connect(place, clock)); lap('open without schema')
const subject = new Subject({store, time: store, close: () => store.close()})
await subject.submit(); lap('submit')
for(let j=0;j<10;j++) await subject.submit(); lap('10 submit')
const w = await subject.worker(); lap('worker')
const jobs = await subject.lease(w); lap('lease '+jobs.length)
for (const j of jobs.slice(0,5)) await subject.succeed(j); lap('5 succeed')
await Promise.all(jobs.slice(5).map(j => subject.succeed(j))); lap('rest succeed together '+(jobs.length-5))
await subject.counts(); lap('counts')
await store.close(); await store2.close(); lap('close')
}
