import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from './folder.ts'

const root = join(import.meta.dirname, '../..')

/** What the compiler says of these programs, each a module of its own; '' when their types hold. */
export function typeErrorsOf(programs: string[], paths: Record<string, string>): string {
  using folder = temporaryFolder()
  symlinkSync(join(root, 'node_modules'), folder.file('node_modules'))
  mkdirSync(folder.file('blocks'))
  for (const [i, text] of programs.entries()) writeFileSync(folder.file(`blocks/${i}.ts`), text)
  const places = Object.fromEntries(Object.entries(paths).map(([name, place]) => [name, [place]]))
  const config = { extends: join(root, 'tsconfig.json'), compilerOptions: { paths: places }, include: ['blocks'] }
  writeFileSync(folder.file('tsconfig.json'), JSON.stringify(config))
  writeFileSync(folder.file('package.json'), '{ "type": "module" }')
  const { status, stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder.file('.')], {
    encoding: 'utf8',
  })
  return status === 0 ? '' : stdout
}
