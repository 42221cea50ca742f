import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { serverText } from '../../src/server/postgres.ts'
import { serve } from '../../src/server/server.ts'
import { SqliteStore } from '../../src/store/sqlite/store.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Dashboard } from '../support/grafana.ts'

// What stands in deploy/ fits the server: each metric it names is one that the server tells, under those labels.

const root = join(import.meta.dirname, '../..')
const read = (name: string) => readFileSync(join(root, name), 'utf8')
const tools = { promtool: 'promtool', systemd: 'systemd-analyze' }
const missing = (tool: string) => spawnSync(tool, ['--version']).error !== undefined && `${tool} is not installed`
const run = (tool: string, ...args: string[]) => spawnSync(tool, args, { cwd: root, encoding: 'utf8' })

/** What is wrong with the metrics that an expression names. `known` are those that the server says it has. */
function unknown(expression: string, known: ReadonlyMap<string, string>): string[] {
  const wrong: string[] = []
  for (const [, name] of expression.matchAll(/\b((?:gopherqueue|process)_\w+)/g)) {
    const base = name!.replace(/_(bucket|sum|count)$/, '')
    const type = known.get(name!) ?? (known.get(base) === 'histogram' ? 'histogram' : undefined)
    if (!type) wrong.push(`there is no ${name}`)
    else if (/_total$/.test(name!) && !/(rate|increase)\([^)]*$/.test(expression.slice(0, expression.indexOf(name!))))
      wrong.push(`${name} only grows`)
  }
  return wrong
}

const typesOf = (text: string) =>
  [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]): [string, string] => [name!, type!])

/** Metrics by their type. */
async function metrics(): Promise<Map<string, string>> {
  using folder = temporaryFolder()
  const store = await SqliteStore.open(folder.file('jobs.db'), { tends: true })
  const server = await serve(store, { port: 0, logLevel: 'silent' })
  for (;;) {
    const text = await (await fetch(`${server.url}/metrics`)).text()
    const known = new Map(typesOf(text))
    if (!known.has('gopherqueue_commit_operations')) continue // the storage thread has not told them yet
    await server.close()
    for (const name of typesOf(serverText({ at: 0, problem: null, figures: null }))) known.set(...name) // of a queue on PostgreSQL
    return known
  }
}

test('dashboard, alerts and docs name only metrics that exist, and each one is somewhere', async () => {
  const known = await metrics()
  assert.deepEqual(unknown('rate(gopherqueue_job_wait_seconds_bucket[5m]) / gopherqueue_nonsense', known), ['there is no gopherqueue_nonsense']) // biome-ignore format: long
  assert.deepEqual(unknown('sum(gopherqueue_attempts_total)', known), ['gopherqueue_attempts_total only grows'])
  const dashboard = JSON.parse(read('deploy/grafana.json')) as { panels: { id: number; targets: { expr: string }[] }[] }
  const shown = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  const alerts = [...read('deploy/alerts.yml').matchAll(/expr: (.*(?:\n {10,}.*)*)/g)].map(([, expr]) => expr!)
  assert.ok(shown.length > 15 && alerts.length > 10)
  assert.deepEqual([...shown, ...alerts].flatMap((expression) => unknown(expression, known)), []) // biome-ignore format: short
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)

  const docs = read('docs/operations.md')
  const documented = new Set([...docs.matchAll(/`((?:gopherqueue|process)_\w+)/g)].map(([, name]) => name))
  assert.deepEqual([...documented].sort(), [...known.keys()].sort(), 'docs/operations.md lists each metric')
  const named = [...read('deploy/alerts.yml').matchAll(/alert: (\w+)/g)].map(([, name]) => name)
  const explained = [...docs.matchAll(/^\| `(GopherQueue\w+)` \|/gm)].map(([, name]) => name)
  assert.deepEqual(explained, named, 'docs/operations.md explains each alert, in their order')
})

test('the dashboard is one that Grafana takes: by its schema, with variables that exist and are used, and no panel on another', () => {
  const dashboard = JSON.parse(read('deploy/grafana.json')) as Dashboard
  assert.deepEqual(Value.Errors(Dashboard, dashboard).map(({ instancePath, message }) => `${instancePath} ${message}`), []) // biome-ignore format: long
  assert.ok(!Value.Check(Dashboard, { ...dashboard, pannels: [] }), 'the schema finds what is misspelt')
  const names = dashboard.templating.list.map(({ name }) => name)
  assert.deepEqual(names, ['source', 'instance', 'queue', 'type'])
  const expressions = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  const used = [...JSON.stringify(dashboard).matchAll(/\$\{?(\w+)/g)].map(([, name]) => name!)
  assert.deepEqual([...new Set(used)].filter((name) => !name.startsWith('__')).sort(), [...names].sort())
  for (const expression of expressions) {
    for (const label of ['queue', 'type'])
      for (const [, metric, labels] of expression.matchAll(/(gopherqueue_\w+)\{([^}]*)\}/g))
        if (labelled(label).has(metric!.replace(/_bucket$/, '')))
          assert.match(labels!, new RegExp(`\\b${label}=~"\\$${label}"`), expression)
    assert.match(expression, /instance=~"\$instance"/)
  }
  const cells = new Set<string>()
  for (const { title, gridPos: { x, y, w, h } } of dashboard.panels)
    for (let column = x; column < x + w; column++)
      for (let row = y; row < y + h; row++) {
        assert.ok(column < 24 && !cells.has(`${column} ${row}`), `${title} lies on another`)
        cells.add(`${column} ${row}`)
      } // biome-ignore format: loops
})

/** The metrics that docs/operations.md gives a label. */
const labelled = (label: string): Set<string> =>
  new Set([...read('docs/operations.md').matchAll(/`(gopherqueue_\w+)\{([\w,]+)\}`/g)].filter(([, , labels]) => labels!.split(',').includes(label)).map(([, name]) => name!)) // biome-ignore format: long

test('the alert rules are valid, and each fires when it should and not otherwise', {
  skip: missing(tools.promtool),
}, () => {
  for (const what of [
    ['check', 'rules', 'deploy/alerts.yml'],
    ['test', 'rules', 'deploy/alerts.test.yml'],
  ]) {
    const { status, stdout, stderr } = run(tools.promtool, ...what)
    assert.equal(status, 0, stdout + stderr)
  }
})

test('the systemd unit is valid and hardened', { skip: missing(tools.systemd) }, () => {
  const unit = 'deploy/gopherqueue.service'
  const { stderr } = run(tools.systemd, 'verify', unit)
  const complaints = stderr.split('\n').filter((line) => line && !line.includes('gopherqueue is not executable'))
  assert.deepEqual(complaints, [])
  const { status, stdout } = run(tools.systemd, 'security', '--offline=true', '--threshold=20', unit)
  assert.equal(status, 0, stdout.split('\n').slice(-3).join('\n')) // 2.0 of 10; it is 1.4
})

test('the Containerfile builds all of it, and what it leaves out is made in it', () => {
  const file = read('deploy/Containerfile')
  const copied = [...file.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].map(([, sources]) => sources)
  assert.deepEqual(copied, ['package.json package-lock.json', '.'])
  assert.match(file, /^RUN npm run build && npm prune/m)
  const built = (JSON.parse(read('package.json')) as { scripts: { build: string } }).scripts.build
  assert.match(built, /tsc .*docs\/site\/build\.ts .*vite build dashboard/)
  const ignored = read('.dockerignore')
    .split('\n')
    .filter((line) => line && line !== '.git' && !line.includes('*'))
  assert.ok(ignored.length > 2)
  for (const name of ignored) assert.equal(run('git', 'ls-files', name).stdout, '', `${name} is part of the repository`)
  for (const [, kept] of file.matchAll(/^COPY --from=build \/build\/(\S+)/gm))
    assert.ok(['package.json', 'node_modules', 'dist'].includes(kept!), kept)
})

test('the Dockerfile for apps starts node itself, with the file in its volume', () => {
  const file = read('deploy/Dockerfile.app')
  assert.match(file, /^CMD \["node", "worker\.ts"\]$/m)
  assert.match(file, /^VOLUME \/data$/m)
  assert.match(file, /^ENV QUEUE=\/data\/jobs\.db/m)
  assert.match(read('docs/deploy.md'), /process\.env\.QUEUE/, 'the worker there opens it')
})

test('the Dockerfile for Next.js has what its standalone folder lacks, and a volume that its user owns', () => {
  const section = read('docs/deploy.md').split('\n## Next.js, standalone\n')[1]!.split('\n## ')[0]!
  const [, file] = /^```dockerfile\n([\s\S]*?)^```$/m.exec(section)!
  assert.equal(new Set([...file!.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base)).size, 1, 'one libc')
  const copied = [...file!.matchAll(/^COPY --from=build --chown=node:node \/app\/(\S+) (\S+)$/gm)].map(([, from, to]) => [from, to]) // biome-ignore format: one line
  assert.deepEqual(copied, [['.next/standalone', './'], ['.next/static', '.next/static'], ['public', 'public']]) // biome-ignore format: one line
  assert.match(file!, /^RUN mkdir \/data && chown node:node \/data\nUSER node\nENV QUEUE=\/data\/jobs\.db /m)
  assert.match(file!, /^VOLUME \/data$[\s\S]*^CMD \["node", "server\.js"\]$/m)
  const [, ignored] = /^```dockerignore\n([\s\S]*?)^```$/m.exec(section)!
  for (const name of ['node_modules', '.next', '.git', '*.db*']) assert.ok(ignored!.split('\n').includes(name), name)
  assert.match(read('docs/bundlers.md'), /GopherQueue\.open\(process\.env\.QUEUE \?\? /, 'the app there opens it')
})
