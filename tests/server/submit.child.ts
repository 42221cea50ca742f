// Submits over HTTP, many at once, until told to stop or the server is gone. Tells each acknowledged id as a line, and at
// the end how the requests that were not acknowledged ended.
const { url, many } = JSON.parse(process.argv[2]!) as { url: string; many: number }
const refused: Record<string, number> = {}
let longest = 0

async function submitter(): Promise<void> {
  for (;;) {
    const begun = performance.now()
    try {
      const response = await fetch(`${url}/v1/jobs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"type":"work","payload":{"to":"ada@example.com"}}',
      })
      const answer = (await response.json()) as { id?: number; code?: string; accepted?: string }
      if (response.status === 201) process.stdout.write(`${answer.id}\n`)
      else return count(`${answer.code} ${answer.accepted}`)
    } catch (error) {
      return count((error as { cause?: { code?: string } }).cause?.code ?? String(error))
    } finally {
      longest = Math.max(longest, performance.now() - begun)
    }
  }
}

function count(how: string): void {
  refused[how] = (refused[how] ?? 0) + 1
}

await Promise.all(Array.from({ length: many }, submitter))
process.stdout.write(`${JSON.stringify({ refused, longest })}\n`)
