import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { complaints } from './support/docstrings.ts'
import { temporaryFolder } from './support/folder.ts'

// The docstrings that `npm run docs` makes the API reference from, as an app's editor shows them: in the declarations.

const root = join(import.meta.dirname, '..')
const errors = readFileSync(join(root, 'src/model/errors.ts'), 'utf8')
const codes = new Set([...errors.matchAll(/^ {2}\| '(\w+)' \/\/ /gm)].map((match) => match[1]!))
const health = readFileSync(join(root, 'src/queue/health.ts'), 'utf8')
const condition = readFileSync(join(root, 'src/store/sqlite/warning.ts'), 'utf8')
const warnings = /^export interface Warning \{\n {2}code:([^:]*)\n/m.exec(condition)![1]!
const causes = [...health.matchAll(/code: '(\w+)'/g), ...warnings.matchAll(/'(\w+)'/g)].map((match) => match[1]!)

test('each public symbol and member has a docstring, its types can be imported, and its error codes exist', () => {
  using folder = temporaryFolder()
  const tsc = join(root, 'node_modules/.bin/tsc')
  const options = ['--emitDeclarationOnly', '--outDir', folder.file('.')]
  execFileSync(tsc, ['-p', 'tsconfig.build.json', ...options], { cwd: root })
  assert.ok(codes.size >= 20 && causes.length >= 2, 'codes are read from where they stand')
  const entries = [folder.file('index.d.ts'), folder.file('testing/index.d.ts')]
  assert.deepEqual(complaints(entries, codes, causes), [])
})

test('what is missing or wrong is noticed', () => {
  using folder = temporaryFolder()
  writeFileSync(
    folder.file('index.d.ts'),
    `export { type Hidden as Shown, type Bare } from './other.ts'
    import type { Secret, Base } from './other.ts'
    /** Has all. Throws CLOSED, QUEUE_FULL. */
    export declare class Good implements Base {
      #private;
      private inner;
      /** @internal */
      constructor(secret: Secret);
      inherited(): void
      /** Refused with NOT_A_CODE. Throws NOT_FOUND, CLOSD. CLOSD is no word to check here. */
      get bad(): Shadow
      bare: string
    }
    /** One. */
    export declare function twice(a: string): void
    export declare function twice(a: number): void
    interface Shadow {}`,
  )
  writeFileSync(
    folder.file('other.d.ts'),
    `/** Exported under another name, all the same. */
    export interface Hidden { /** Yes. */ yes: string; no(): void }
    export type Bare = { free: string }
    export interface Secret { free: string }
    export interface Base { /** Here. */ inherited(): void }`,
  )
  assert.deepEqual(complaints([folder.file('index.d.ts')], codes), [
    'Hidden.no has no docstring',
    'Bare has no docstring',
    'Good.bare has no docstring',
    'Good uses Base, which is not exported',
    'Good uses Shadow, which is not exported',
    'twice has no docstring',
    `${folder.file('index.d.ts')}: there is no error code CLOSD`,
    `${folder.file('index.d.ts')}: there is no error code NOT_A_CODE`,
  ])
})
