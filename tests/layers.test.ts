import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'
import { parseSync } from 'oxc-parser'

// How the house is built: which room may use which, and that nothing leads back to where it came from. Types count too.

const root = join(import.meta.dirname, '../src')
const files = globSync('**/*.ts', { cwd: root })
const text = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]))
const imports = new Map(
  files.map((file) => {
    const found = text.get(file)!.matchAll(/(?:from|import\() ?'(\.[^']+)'/g)
    return [file, [...found].map((match) => normalize(join(dirname(file), match[1]!)))]
  }),
)

/** Each room, and the rooms that it may import from besides itself. */
const rooms: Record<string, string[]> = {
  model: [],
  store: ['model'],
  'store/sqlite': ['model', 'store', 'store/sqlite/schema'],
  'store/sqlite/schema': [],
  'store/postgres': ['model', 'store', 'store/sqlite', 'store/postgres/schema'],
  'store/postgres/schema': [],
  'store/http': ['model', 'store', 'store/sqlite'],
  queue: ['model', 'store', 'store/sqlite', 'store/postgres', 'store/http'],
  testing: ['model', 'store', 'store/sqlite', 'queue'],
  server: ['model', 'store', 'store/http', 'queue'],
  cli: ['model', 'store', 'store/sqlite', 'store/postgres', 'queue', 'server'],
  '.': ['model', 'store', 'queue', 'cli'],
}

test('a room imports only from rooms below it', () => {
  for (const [file, targets] of imports)
    for (const target of targets) {
      const [from, to] = [dirname(file), dirname(target)]
      assert.ok(from === to || rooms[from]?.includes(to), `${file} imports ${target}`)
    }
})

test('no import leads in a circle', () => {
  const done = new Set<string>()
  const visit = (file: string, way: string[]) => {
    assert.ok(!way.includes(file), [...way.slice(way.indexOf(file)), file].join(' -> '))
    if (done.has(file)) return
    for (const target of imports.get(file) ?? []) visit(target, [...way, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
})

test('one file alone asks which operating system it runs on', () => {
  for (const [file, source] of text)
    if (file !== 'store/sqlite/platform.ts')
      assert.doesNotMatch(source, /process\.platform|['`]\/(proc|dev)\/|statfsSync\([^)]*\)\.type/, file)
})

test('no statement writes a state but from the table of states', () => {
  for (const [file, source] of text) assert.doesNotMatch(source, /SET\s+state = '(?!\$\{lifecycle)/, file)
})

test('what loads a package that an app may lack stands in a try: without it, Turbopack fails to build the app', () => {
  const found = files.flatMap((file) => [...importsOf(file)])
  assert.equal(found.filter(({ from }) => from === 'driver').length, 1, 'pg is loaded in one place')
  assert.deepEqual(found.filter(({ tries }) => !tries), []) // biome-ignore format: short
})

test('no file has more than 300 lines', () => {
  for (const file of files) {
    const lines = text.get(file)!.split('\n').length - 1
    assert.ok(lines <= 300, `${file} has ${lines} lines`)
  }
})

test('no function has more than 70 lines', () => {
  for (const file of files)
    for (const [name, lines] of functionsOf(file)) assert.ok(lines <= 70, `${name} in ${file} has ${lines} lines`)
})

type Node = Record<string, unknown> & { type: string; start: number; end: number }

/** The functions of a file and their lines; one without a name of its own has that of what it stands in. */
function* functionsOf(file: string): Generator<[name: string, lines: number]> {
  const source = text.get(file)!
  const stack: [node: unknown, name: string][] = [[parseSync(file, source).program, '']]
  for (let entry = stack.pop(); entry; entry = stack.pop()) {
    const [node, around] = entry as [Node | null, string]
    if (node === null || typeof node !== 'object') continue
    const { name = around } = (node.key ?? node.id ?? {}) as { name?: string }
    if (/Function/.test(node.type ?? '') && node.body)
      yield [name, source.slice(node.start, node.end).split('\n').length]
    for (const child of Object.values(node)) stack.push([child, name])
  }
}

/** What a file imports by a name that is computed, modules by their URL aside, and whether it is tried. */
function* importsOf(file: string): Generator<{ file: string; from: string; tries: boolean }> {
  const source = text.get(file)!
  const stack: [node: unknown, tries: boolean][] = [[parseSync(file, source).program, false]]
  for (let entry = stack.pop(); entry; entry = stack.pop()) {
    const [node, tries] = entry as [Node | null, boolean]
    if (node === null || typeof node !== 'object') continue
    const { start, end, type } = (node.source ?? {}) as Node
    const from = source.slice(start, end)
    if (node.type === 'ImportExpression' && type !== 'Literal' && !/\b(href|url)$/.test(from))
      yield { file, from, tries }
    for (const [key, child] of Object.entries(node)) stack.push([child, tries || (node.type === 'TryStatement' && key === 'block')]) // biome-ignore format: one line
  }
}
