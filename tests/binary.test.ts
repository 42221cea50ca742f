import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from './support/folder.ts'

const folder = temporaryFolder()
after(() => folder[Symbol.dispose]())
const build = fileURLToPath(new URL('../binary/build.ts', import.meta.url))
const [out, again] = [folder.file('binary'), folder.file('again')]
const made = [out, again].map((to) => spawnSync(process.execPath, [build, '--out', to], { encoding: 'utf8' }))
const binary = join(out, 'gopherqueue')

test('it is built, and built again it is the same, byte for byte; its checksum is right', () => {
  for (const { status, stderr } of made) assert.equal(status, 0, stderr)
  const sum = readFileSync(`${binary}.sha256`, 'utf8')
  assert.equal(readFileSync(join(again, 'gopherqueue.sha256'), 'utf8'), sum)
  execFileSync('sha256sum', ['--check', '--quiet', 'gopherqueue.sha256'], { cwd: out })
})

test('with nothing in its environment it stores jobs and runs a command for each', async () => {
  const run = (...args: string[]) =>
    spawnSync(binary, ['--db', folder.file('jobs.db'), ...args], { env: {}, encoding: 'utf8' })
  assert.deepEqual([run('submit', 'shout', '{"text":"hello"}').stdout.trim()], ['1'])
  const worker = spawn(binary, ['--db', folder.file('jobs.db'), 'work', 'shout', '--exec', '/usr/bin/tr a-z A-Z'], {
    env: {},
  })
  const ended = once(worker, 'exit')
  let told = ''
  for await (const chunk of worker.stderr) {
    told += chunk
    if (/job 1 succeeded/.test(told)) worker.kill('SIGTERM')
  }
  assert.deepEqual(await ended, [0, null], told)
  assert.deepEqual(JSON.parse(run('job', '1', '--json').stdout).result, { TEXT: 'HELLO' })
  const doctor = run('doctor', '--crash')
  assert.match(doctor.stdout, /crash.* 0 /, doctor.stderr)
})

test('it serves where there is nothing but libc', {
  skip: process.getuid?.() !== 0 && 'only root may chroot',
}, async () => {
  const jail = folder.file('jail')
  mkdirSync(join(jail, 'data'), { recursive: true })
  // Beside the binary a shell and one command, for `work --exec`: all of them need libc alone.
  for (const [program, place] of [
    [binary, '/gopherqueue'],
    ['/bin/sh', '/bin/sh'],
    ['/usr/bin/tr', '/usr/bin/tr'],
  ] as const) {
    const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).match(/\/[^ ]+/g) ?? []
    for (const [from, to] of [[program, place], ...libraries.map((file) => [file, file])] as [string, string][]) {
      mkdirSync(join(jail, dirname(to)), { recursive: true })
      copyFileSync(from, join(jail, to))
    }
  }
  const env = { PATH: process.env.PATH }
  const inside = [jail, '/gopherqueue', '--db', '/data/jobs.db']
  assert.equal(spawnSync('chroot', [...inside, 'submit', 'shout', '"hello"'], { env, encoding: 'utf8' }).stdout, '1\n')
  const worker = spawn('chroot', [...inside, 'work', 'shout', '--exec', '/usr/bin/tr a-z A-Z'], { env })
  for await (const told of worker.stderr) if (/job 1 succeeded/.test(`${told}`)) worker.kill('SIGTERM')
  const server = spawn('chroot', [...inside, 'serve', '--port', '0'], { env })
  const [line] = (await once(createInterface(server.stdout), 'line')) as [string]
  const url = /http:\S+?(?=["\s]|$)/.exec(line)![0]
  const headers = { 'content-type': 'application/json' }
  const body = JSON.stringify({ type: 'mail', payload: { to: 'ada@example.com' } })
  const submitted = await fetch(`${url}/v1/jobs`, { method: 'POST', headers, body })
  assert.equal(submitted.status, 201)
  const shouted = (await (await fetch(`${url}/v1/jobs/1`)).json()) as { result: string }
  assert.equal(shouted.result, 'HELLO')
  const page = await fetch(`${url}/docs/concepts.html`)
  assert.deepEqual([page.status, /<h1 id="concepts">/.test(await page.text())], [200, true])
  server.kill('SIGTERM')
  assert.deepEqual(await once(server, 'exit'), [0, null])
})
