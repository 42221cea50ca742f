import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from './folder.ts'

const root = join(import.meta.dirname, '../..')

export const npm = (cwd: string, ...args: string[]) =>
  execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** The package as a stranger gets it: packed, and installed into a project of its own beside `packages`. */
export function packedProject(type: 'module' | 'commonjs', ...packages: string[]) {
  const folder = temporaryFolder()
  const project = folder.file('project')
  // A copy, so that the build does not replace a dist that something else runs from.
  const source = folder.file('source')
  const without = new Set(['.git', 'dist', 'node_modules', 'docs/api'].map((name) => join(root, name)))
  cpSync(root, source, { recursive: true, filter: (path) => !without.has(path) })
  symlinkSync(join(root, 'node_modules'), join(source, 'node_modules'))
  const [tarball] = JSON.parse(npm(source, 'pack', '--json', '--pack-destination', folder.file('.'))) as [
    { filename: string; files: { path: string }[] },
  ]
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type }))
  npm(project, 'install', '--prefer-offline', '--no-audit', '--no-fund', folder.file(tarball.filename), ...packages)
  return { folder, project, files: tarball.files.map(({ path }) => path) }
}
