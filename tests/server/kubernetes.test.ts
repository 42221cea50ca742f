import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { parseAllDocuments } from 'yaml'
import { workSettings } from '../../src/queue/options.ts'
import { makeToken } from '../../src/server/auth.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { main } from '../support/bundled.ts'
import { temporaryFolder } from '../support/folder.ts'

// The manifests of docs/deploy.md: they parse, their parts name each other, and their port, paths and times are the code's.

const root = join(import.meta.dirname, '../..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const section = read('docs/deploy.md').split('\n## Kubernetes\n')[1]!.split('\n## ')[0]!
const [, text] = /^```yaml\n([\s\S]*?)^```$/m.exec(section)!

/** Nothing but these: a field that is misspelt is one that Kubernetes drops. */
const exactly = <T extends Record<string, TSchema>>(properties: T) => Type.Object(properties, { additionalProperties: false }) // biome-ignore format: one line
const metadata = exactly({ name: Type.String() })
const labels = exactly({ app: Type.String() })
const http = exactly({ path: Type.String(), port: Type.String() })
const probe = exactly({
  httpGet: http,
  periodSeconds: Type.Integer(),
  timeoutSeconds: Type.Optional(Type.Integer()),
  failureThreshold: Type.Optional(Type.Integer()),
})
const resources = exactly({
  requests: exactly({ cpu: Type.String(), memory: Type.String() }),
  limits: exactly({ memory: Type.String() }),
})
const container = exactly({
  name: Type.String(),
  image: Type.String(),
  command: Type.Optional(Type.Array(Type.String())),
  env: Type.Array(exactly({ name: Type.String(), value: Type.String() })),
  ports: Type.Optional(Type.Array(exactly({ name: Type.String(), containerPort: Type.Integer() }))),
  startupProbe: Type.Optional(probe),
  livenessProbe: Type.Optional(probe),
  readinessProbe: Type.Optional(probe),
  resources,
  volumeMounts: Type.Array(exactly({ name: Type.String(), mountPath: Type.String() })),
})
const Claim = exactly({
  apiVersion: Type.Literal('v1'),
  kind: Type.Literal('PersistentVolumeClaim'),
  metadata,
  spec: exactly({
    accessModes: Type.Array(Type.String()),
    resources: exactly({ requests: exactly({ storage: Type.String() }) }),
  }),
})
const ids = exactly({ runAsNonRoot: Type.Literal(true), runAsUser: Type.Integer(), runAsGroup: Type.Integer(), fsGroup: Type.Integer() }) // biome-ignore format: one line
const volume = exactly({ name: Type.String(), persistentVolumeClaim: exactly({ claimName: Type.String() }) })
const Deployment = exactly({
  apiVersion: Type.Literal('apps/v1'),
  kind: Type.Literal('Deployment'),
  metadata,
  spec: exactly({
    replicas: Type.Integer(),
    strategy: exactly({ type: Type.String() }),
    selector: exactly({ matchLabels: labels }),
    template: exactly({
      metadata: exactly({ labels }),
      spec: exactly({
        terminationGracePeriodSeconds: Type.Integer(),
        shareProcessNamespace: Type.Literal(true),
        securityContext: ids,
        volumes: Type.Array(volume),
        containers: Type.Array(container),
      }),
    }),
  }),
})
const Service = exactly({
  apiVersion: Type.Literal('v1'),
  kind: Type.Literal('Service'),
  metadata,
  spec: exactly({
    selector: labels,
    ports: Type.Array(exactly({ name: Type.String(), port: Type.Integer(), targetPort: Type.String() })),
  }),
})
const Manifests = Type.Tuple([Claim, Deployment, Service])

function manifests(source: string): Static<typeof Manifests> {
  const documents = parseAllDocuments(source)
  assert.ok(!('empty' in documents))
  assert.deepEqual(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings]), []) // biome-ignore format: short
  const values = documents.map((document): unknown => document.toJS())
  const wrong = Value.Errors(Manifests, values).map(({ instancePath, message }) => `${instancePath} ${message}`)
  assert.deepEqual(wrong, [])
  return Value.Parse(Manifests, values)
}

const [claim, deployment, service] = manifests(text!)
const pod = deployment.spec.template.spec
const [server, worker] = pod.containers as [Static<typeof container>, Static<typeof container>]

test('one pod at a time has the file, and its parts name each other', () => {
  assert.throws(() => manifests(text!.replace('httpGet', 'httpget')), 'a misspelt field is noticed')
  assert.equal(deployment.spec.replicas, 1)
  assert.equal(deployment.spec.strategy.type, 'Recreate')
  assert.deepEqual(claim.spec.accessModes, ['ReadWriteOncePod'])
  assert.deepEqual(pod.volumes, [{ name: 'data', persistentVolumeClaim: { claimName: claim.metadata.name } }])
  const { labels: own } = deployment.spec.template.metadata
  assert.deepEqual([deployment.spec.selector.matchLabels, service.spec.selector], [own, own])
  assert.deepEqual(pod.containers.map(({ name }) => name), ['server', 'worker']) // biome-ignore format: short
  for (const { volumeMounts, env } of pod.containers) {
    assert.deepEqual(volumeMounts, [{ name: 'data', mountPath: '/data' }])
    assert.equal(env[0]!.value, '/data/jobs.db', 'both have the same file')
  }
  assert.match(read('deploy/Containerfile'), new RegExp(`^ENV ${server.env[0]!.name}=`, 'm'))
  assert.match(read('deploy/Dockerfile.app'), new RegExp(`^ENV ${worker.env[0]!.name}=`, 'm'))
  assert.ok(read('deploy/Dockerfile.app').includes(`CMD ${JSON.stringify(worker.command).replace(',', ', ')}`))
})

test('its times leave a worker its stop', () => {
  const { grace, afterAbort } = workSettings({ stopOn: ['SIGTERM'] }, 'w')
  const patience = pod.terminationGracePeriodSeconds * 1000
  assert.ok(grace + afterAbort + 2000 <= patience)
  const most = Number(/needs 4 s more than its grace: up to (\d+)s/.exec(text!)![1])
  assert.equal((most * 1000 + afterAbort + 2000), patience) // biome-ignore format: as in the text
  assert.ok(section.includes(`The default \`grace\` of ${grace / 1000} s fits. One that is longer than ${most} s`))
})

/** The status of an answer, asked as a node of the cluster asks: by the pod's address. */
async function ask(port: string, path: string): Promise<number | undefined> {
  const asked = request({ host: '127.0.0.1', port, path, headers: { Host: '10.244.0.7:7420' } }).end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode
}

test('its probes ask the port and the paths that a server has, without a token', async () => {
  const help = execFileSync(process.execPath, [main, 'serve', '--help'], { encoding: 'utf8' })
  const port = Number(/--port <n> .*\(default: (\d+)\)/.exec(help)![1])
  assert.deepEqual(server.ports, [{ name: 'http', containerPort: port }])
  assert.deepEqual(service.spec.ports, [{ name: 'http', port, targetPort: 'http' }])
  assert.match(read('deploy/Containerfile'), new RegExp(`^EXPOSE ${port}$[\\s\\S]*^CMD \\["serve", "--host", "0.0.0.0"\\]`, 'm')) // biome-ignore format: one line

  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'), { tends: true })
  const options = { host: '0.0.0.0', port: 0, logLevel: 'silent' }
  await assert.rejects(serve(store, options), /token/, 'the page says: a token first')
  await store.call('createToken', { name: 'ops', scopes: ['admin'], hash: makeToken().hash, expiresAt: null })
  const running = await serve(store, options)
  const { port: open } = new URL(running.url)
  const { startupProbe, livenessProbe, readinessProbe } = server
  for (const { httpGet } of [startupProbe!, livenessProbe!, readinessProbe!]) {
    assert.equal(httpGet.port, 'http')
    while ((await ask(open, httpGet.path)) !== 200); // readiness is proved within a second
  }
  assert.equal(await ask(open, '/v1/jobs'), 401)
  await running.close()
  assert.deepEqual([livenessProbe!.httpGet.path, readinessProbe!.httpGet.path], ['/healthz', '/readyz'])
})
