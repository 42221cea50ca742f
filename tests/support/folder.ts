import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A folder that goes when its scope ends. */
export function temporaryFolder(): Disposable & { file(name: string): string } {
  const path = mkdtempSync(join(tmpdir(), 'gopherqueue-'))
  return {
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  }
}
