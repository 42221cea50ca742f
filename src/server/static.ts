import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { type Exchange, type Routes, send } from './http.ts'

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.png': 'image/png',
  '.webp': 'image/webp',
  '.md': 'text/markdown; charset=utf-8',
}

/** What `npm run build` made of `name`, by the path of each file in its folder: the same from source and when built. */
export function built(
  name: string,
  folder = fileURLToPath(new URL(`../../dist/${name}/`, import.meta.url)),
): Map<string, Buffer> {
  const paths = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : []
  const known = paths.filter((path) => extname(path) in types)
  return new Map(known.map((path) => [path.replaceAll('\\', '/'), readFileSync(join(folder, path))]))
}

/**
 * Serves the pages of `name` under `at`, which ends with a slash, to anybody: they hold nothing that a token guards. All are
 * in memory, so nothing that a client names is looked up on the disk. `policy` is what they may load.
 */
export function serveStatic(routes: Routes, name: string, at: string, policy: string, files = built(name)): void {
  const csp = `${policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
  const add = (path: string, handle: (exchange: Exchange) => void) =>
    routes.add({ method: 'GET', path, scope: 'none', handle })
  if (at !== '/')
    // Relative: a proxy may add to the path.
    add(at.slice(0, -1), ({ response }) =>
      response.writeHead(308, { location: at.slice(1), 'content-length': 0 }).end(),
    )
  if (files.size === 0)
    add(at, ({ response }) => {
      response.setHeader('content-security-policy', csp)
      const text = `<!doctype html><title>GopherQueue</title><p>The ${name} is not built here: run <code>npm run build</code> and start the server again.`
      send(response, 503, types['.html']!, text)
    })
  for (const [path, body] of files) {
    let packed: Buffer | undefined
    const cached = path.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache' // those are named by their contents
    const serve = ({ request, response }: Exchange) => {
      const headers = { 'content-security-policy': csp, 'cache-control': cached, vary: 'accept-encoding' }
      for (const [header, value] of Object.entries(headers)) response.setHeader(header, value)
      const isPacked = /\bgzip\b/.test(String(request.headers['accept-encoding']))
      if (isPacked) {
        response.setHeader('content-encoding', 'gzip')
        packed ??= gzipSync(body)
      }
      send(response, 200, types[extname(path)]!, isPacked ? packed! : body)
    }
    add(at + path, serve)
    if (path === 'index.html') add(at, serve)
  }
}
