import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Routes, splitUrl } from '../../src/server/http.ts'

/** Serves routes with nothing around them, as to a test of pages; answers with the address and what ends it. */
export async function serveRoutes(add: (routes: Routes) => void): Promise<{ url: string; close: () => void }> {
  const routes = new Routes()
  add(routes)
  const server = createServer((request, response) => {
    const found = routes.find(request.method!, splitUrl(request.url!).path)
    if (found && 'route' in found)
      void found.route.handle({ request, response, id: '', who: '', params: {}, query: {}, body: undefined })
    else response.writeHead(404).end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close }
}
