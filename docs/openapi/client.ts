// A client and a worker of types that openapi-typescript makes of /openapi.json. node client.ts URL
import createClient from 'openapi-fetch'
import type { paths } from './api.d.ts'

const client = createClient<paths>({ baseUrl: process.argv[2]! })

const { data: submitted, error } = await client.POST('/v1/jobs', {
  params: { header: { 'Idempotency-Key': 'order-1' } },
  body: { type: 'double', payload: { n: 21 } },
})
if (!submitted) throw new Error(error.detail)

const { data: leased } = await client.POST('/v1/leases', { body: { worker: 'generated', types: ['double'] } })
for (const { id, token, payload } of leased!.jobs) {
  const result = (payload as { n: number }).n * 2
  await client.POST('/v1/jobs/{id}/succeed', { params: { path: { id } }, body: { token, result } })
}

const { data: job } = await client.GET('/v1/jobs/{id}/wait', {
  params: { path: { id: submitted.id }, query: { waitMs: 5000 } },
})
const refused = await client.POST('/v1/jobs/{id}/cancel', { params: { path: { id: submitted.id } } })
console.log(
  JSON.stringify([job!.state, job!.result, job!.idempotencyKey, refused.error!.code, refused.error!.accepted]),
)
