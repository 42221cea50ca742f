import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { Bench } from '../cli/support.ts'
import { ask, serving } from './support.ts'

/** Self-signed certificates for localhost; `use(name)` puts one where the server looks. */
function certificates(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'gopherqueue-tls-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  for (const name of ['first', 'second'])
    execFileSync('openssl', `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${name} -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout ${folder}/${name}.key -out ${folder}/${name}.pem`.split(' '), { stdio: 'pipe' }) // biome-ignore format: long
  const use = (name: string, its = name) => {
    copyFileSync(join(folder, `${name}.pem`), cert)
    copyFileSync(join(folder, `${its}.key`), key)
  }
  use('first')
  return { cert, key, use, ca: (name: string) => readFileSync(join(folder, `${name}.pem`), 'utf8') }
}

/** Whose certificate a new connection is shown. */
async function shown(url: string): Promise<string> {
  const socket: TLSSocket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  const { CN } = socket.getPeerCertificate().subject
  socket.destroy()
  return String(CN)
}

test('HTTPS; new files are taken at reload, bad ones leave the old in place, and say so', async (t) => {
  const { cert, key, use, ca } = certificates(t)
  const at = await serving(t, { tls: { cert, key } })
  assert.match(at.server.url, /^https:/)
  const kept = connect({ port: Number(new URL(at.server.url).port), host: '127.0.0.1', ca: ca('first') })
  await once(kept, 'secureConnect')
  const stats = (name: string) => ask(at.server.url, 'GET', '/v1/stats', { ca: ca(name) })
  const { status, headers } = await stats('first')
  assert.deepEqual([status, headers['x-content-type-options']], [200, 'nosniff'])
  await assert.rejects(stats('second'))

  use('second')
  assert.equal(await shown(at.server.url), 'first') // not before it is told
  at.server.reload()
  assert.deepEqual([await shown(at.server.url), (await stats('second')).status], ['second', 200])

  const before = at.log.length
  for (const spoil of [() => use('first', 'second'), () => writeFileSync(cert, 'no PEM'), () => rmSync(key)]) {
    spoil()
    at.server.reload()
    assert.equal(await shown(at.server.url), 'second')
  }
  const lines = at.log.slice(before).map((line) => JSON.parse(line))
  assert.deepEqual(lines.map(({ level, err }) => [level, err.code]), Array(3).fill(['error', 'INVALID_ARGUMENT'])) // biome-ignore format: short
  use('first')
  at.server.reload()
  assert.equal(await shown(at.server.url), 'first')

  kept.write('GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n') // from before all that
  const [answer] = await once(kept, 'data')
  assert.match(String(answer), /^HTTP\/1.1 200/)
  const old = connect({ port: Number(new URL(at.server.url).port), host: '127.0.0.1', rejectUnauthorized: false, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }) // biome-ignore format: long
  await assert.rejects(once(old, 'secureConnect'))
})

test('files that cannot be used: the server does not start', async (t) => {
  const { cert, key, use } = certificates(t)
  await using store = await SqliteStore.open(':memory:')
  use('first', 'second')
  for (const tls of [
    { cert, key },
    { cert: `${cert}.no`, key },
    { cert: key, key: cert },
  ])
    await assert.rejects(serve(store, { port: 0, logLevel: 'silent', tls }), { code: 'INVALID_ARGUMENT' })
})

test('the command line: SIGHUP reads the files again; one flag without the other is refused', async (t) => {
  const { cert, key, use } = certificates(t)
  const bench = new Bench(t)
  const { code, stderr } = await bench.run('serve', '--port', '0', '--tls-cert', cert)
  assert.deepEqual([code, /go together/.test(stderr)], [2, true])
  const running = bench.start('serve', '--port', '0', '--tls-cert', cert, '--tls-key', key)
  const says = async (pattern: RegExp) => {
    const { stdout, stderr } = running.child
    const said = () => running.stderr + running.stdout
    while (!pattern.test(said())) await Promise.race([once(stdout, 'data'), once(stderr, 'data')])
    return pattern.exec(said())![1]!
  }
  const url = await says(/serving .* at (https:\S+)\n/)
  assert.equal(await shown(url), 'first')
  use('second')
  running.child.kill('SIGHUP')
  await says(/(certificate read again)/)
  assert.equal(await shown(url), 'second')
  running.child.kill('SIGTERM')
  assert.equal((await running.ended).code, 0)
  assert.match((await running.ended).stderr, /^serving \S+ at \S+\n\n$/)
})
