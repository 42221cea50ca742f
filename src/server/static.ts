import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

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
export function serveStatic(app: FastifyInstance, name: string, at: string, policy: string, files = built(name)): void {
  const options = { config: { scope: 'none' } } as const
  const headers = {
    'content-security-policy': `${policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  }
  if (at !== '/') app.get(at.slice(0, -1), options, (_, reply) => reply.redirect(at.slice(1), 308)) // relative: a proxy may add to the path
  if (files.size === 0)
    app.get(at, options, (_, reply) =>
      reply
        .code(503)
        .headers(headers)
        .type(types['.html']!)
        .send(
          `<!doctype html><title>GopherQueue</title><p>The ${name} is not built here: run <code>npm run build</code> and start the server again.`,
        ),
    )
  for (const [path, body] of files) {
    let packed: Buffer | undefined
    const cached = path.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache' // those are named by their contents
    const serve = (request: FastifyRequest, reply: FastifyReply) => {
      reply.headers({ ...headers, 'cache-control': cached, vary: 'accept-encoding' }).type(types[extname(path)]!)
      if (!/\bgzip\b/.test(String(request.headers['accept-encoding']))) return reply.send(body)
      packed ??= gzipSync(body)
      return reply.header('content-encoding', 'gzip').send(packed)
    }
    app.get(at + path, options, serve)
    if (path === 'index.html') app.get(at, options, serve)
  }
}
