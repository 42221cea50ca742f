import { GopherQueueError } from '../../model/errors.ts'

/** A thread's file is not where this code looks for it: beside itself. `cause` is what Node said. */
export function threadMissing(thread: string, cause: unknown): GopherQueueError {
  const detail = String((cause as Error)?.message ?? cause).split('\n')[0]
  const message = `The ${thread} thread could not start (${detail}). Nothing was accepted. If this app is bundled, keep gopherqueue out of the bundle and install it beside: serverExternalPackages: ['gopherqueue'] in next.config, --packages=external for esbuild, external: ['gopherqueue'] for tsup, Rollup and Vite (ssr.external), externals for webpack, -e gopherqueue for ncc; docs/bundlers.md shows each.`
  return new GopherQueueError('STORAGE_UNAVAILABLE', message, { cause })
}
