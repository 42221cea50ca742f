import { type Answer, get, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { bytes, Facts, Loaded, State, Text } from '../parts.tsx'
import { Server } from './server.tsx'

export function Storage(_: PageProps) {
  const data = useData('storage', async () => {
    const [{ file, server }, health, { commits }] = await Promise.all([get<'stats'>('stats'), get<'health'>('health'), get<'vitals'>('vitals')]) // biome-ignore format: long
    return { file, server, health, commits }
  })
  return (
    <>
      <Loaded data={data}>
        {({ file, server, health, commits }) => (
          <>
            <ul class="plain">
              <li>
                <State state={health.works.submit ? 'ok' : 'failed'} /> Submissions are{' '}
                {health.works.submit ? '' : 'not '}taken.
              </li>
              <li>
                <State state={health.works.lease ? 'ok' : 'failed'} /> New attempts{' '}
                {health.works.lease ? 'start' : 'do not start'}.
              </li>
              <li>
                <State state={health.works.complete ? 'ok' : 'failed'} /> Outcomes{' '}
                {health.works.complete ? 'are stored' : 'are held until they can be stored'}.
              </li>
            </ul>
            {server ? (
              <Facts
                facts={[
                  ['Commits, half within', within(commits, 0.5)],
                  ['Commits, 99 % within', within(commits, 0.99)],
                ]}
              />
            ) : file === null ? (
              <p class="empty">This queue is in memory: nothing of it outlives the process.</p>
            ) : (
              <>
                <p>
                  <code>{file.path}</code> <span class="dim">on the server's machine</span>
                </p>
                <Facts
                  facts={[
                    ['Its size', bytes(file.bytes)],
                    ['Free inside it', bytes(file.freeBytes)],
                    ['Write-ahead log', bytes(file.walBytes)],
                    ['Commits, half within', within(commits, 0.5)],
                    ['Commits, 99 % within', within(commits, 0.99)],
                    ['Free on the disk', bytes(file.diskFreeBytes)],
                    ['Set aside for outcomes', bytes(file.reserveBytes)],
                    ['Gives space back', file.shrinks ? 'yes' : 'no: another program made the file'],
                  ]}
                />
                <h2>Backup</h2>
                <p>
                  Online and consistent, on the server's machine; it needs about {bytes(file.bytes - file.freeBytes)}{' '}
                  there:
                </p>
                <Text label="Command for a backup">{`gopherqueue --db ${quoted(file.path)} backup /backups/jobs.db`}</Text>
                <p>What the file and its disk are worth, fsync measured:</p>
                <Text label="Command for a check">{`gopherqueue --db ${quoted(file.path)} doctor`}</Text>
              </>
            )}
          </>
        )}
      </Loaded>
      <Server />
    </>
  )
}

/** For a shell. */
const quoted = (path: string) => (/^[\w./:-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`)

/** The bound that so many of this server's commits are within since its start; those without a change take no fsync. */
function within({ bounds, counts }: Answer<'vitals'>['commits'], part: number): string {
  const upTo = (end: number) => counts.slice(0, end).reduce((sum, count) => sum + count, 0)
  const all = upTo(counts.length)
  const at = counts.findIndex((_, i) => upTo(i + 1) >= all * part)
  return all === 0 ? 'nothing written yet' : bounds[at] === undefined ? `over ${bounds.at(-1)} ms` : `${bounds[at]} ms`
}
