import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Mutant } from './list.ts'

/** The files of a copy at `root` as a mutant would have them. Throws when a text does not stand exactly once in its file. */
export function edited(root: string, { name, edits }: Mutant): Map<string, string> {
  const files = new Map<string, string>()
  for (const [file, find, replace] of edits) {
    const path = join(root, 'src', file)
    const parts = (files.get(path) ?? readFileSync(path, 'utf8')).split(find)
    if (parts.length !== 2)
      throw new Error(`${name}: stands ${parts.length - 1} times in src/${file}, not once: ${JSON.stringify(find)}`)
    files.set(path, parts.join(replace))
  }
  return files
}

/** Writes the mutant's files; answers with what puts the old ones back. */
export function apply(root: string, mutant: Mutant): Disposable {
  const files = edited(root, mutant)
  const before = [...files.keys()].map((path) => [path, readFileSync(path, 'utf8')] as const)
  for (const [path, text] of files) writeFileSync(path, text)
  return {
    [Symbol.dispose]() {
      for (const [path, text] of before) writeFileSync(path, text)
    },
  }
}
