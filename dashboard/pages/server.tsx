import { type Answer, get, useData } from '../api.ts'
import { bytes, Facts, Loaded, number, span, Table, Text, Time } from '../parts.tsx'

/** Of a queue on PostgreSQL: asked for alone, since the rest of the page waits when nothing can be written. */
export function Server() {
  const data = useData('server', () => get<'server'>('server'))
  return <Loaded data={data}>{({ server, causes }) => server && <Known {...server} causes={causes} />}</Loaded>
}

type Asked = Answer<'server'>
type ServerStats = NonNullable<Asked['server']>

function Known({ at, figures, causes }: ServerStats & Pick<Asked, 'causes'>) {
  return (
    <>
      <h2>PostgreSQL</h2>
      <p>
        The server, looked at <Time at={at} />.
      </p>
      {causes.map(({ code, message }) => (
        <p class="notice" role="alert" key={message}>
          <b>{code}</b> {message}
        </p>
      ))}
      {figures && <Looked figures={figures} />}
      <p>The same with what to do, and the rules between rows proved:</p>
      <Text label="Command for a check">gopherqueue --db postgres://… doctor</Text>
    </>
  )
}

function Looked({ figures }: { figures: NonNullable<ServerStats['figures']> }) {
  const { role, seesAll, standbys, writer, snapshots, slots, connections, tables } = figures
  const hidden = <span class="dim">not visible to this role</span>
  return (
    <>
      {!seesAll && (
        <>
          <p>
            Standbys, old snapshots and what other roles do are not visible to the server's role. A superuser may mend
            that:
          </p>
          <Text label="Statement for a superuser">{`GRANT pg_monitor TO ${role}`}</Text>
        </>
      )}
      <Facts
        facts={[
          ["Who has the queue's lock", writer ? said(writer) : 'nobody'],
          ['Since', writer ? (writer.ms === null ? hidden : span(writer.ms)) : '–'],
          ['Wait for it', number(writer?.waiting ?? 0)],
          [
            'Oldest snapshot',
            snapshots === null ? hidden : snapshots[0] ? `${said(snapshots[0])}, ${span(snapshots[0].ms)}` : 'none',
          ],
          [
            'Connections',
            `${number(connections.all)} of ${number(connections.most)}, ${number(connections.ours)} of GopherQueue`,
          ],
          [
            'Unused slots',
            slots.length === 0
              ? 'none'
              : slots
                  .map(({ name, bytes: kept }) => (kept === null ? name : `${name}, keeps ${bytes(kept)}`))
                  .join('; '),
          ],
        ]}
      />
      <h2>Standbys</h2>
      {standbys === null ? (
        <p class="empty">{hidden}</p>
      ) : (
        <Table
          label="Standbys"
          heads={['Name', 'Commits', '#Behind']}
          rows={standbys.map(({ name, sync, behindBytes }, i) => [
            i,
            name,
            sync === 'sync' || sync === 'quorum' ? 'wait for it' : 'do not wait for it',
            behindBytes === null ? '–' : bytes(behindBytes),
          ])}
          empty="None is connected."
        />
      )}
      <h2>Tables</h2>
      <Table
        label="Tables"
        heads={['Table', '#Size', '#Rows, about', '#Dead, about', '-Vacuumed']}
        rows={tables.map(({ name, bytes: size, rows, dead, vacuumedAt }) => [
          name,
          name,
          bytes(size),
          number(rows),
          number(dead),
          <Time key={name} at={vacuumedAt} none="never" />,
        ])}
        empty="None."
      />
    </>
  )
}

const said = ({ pid, name }: { pid: number; name: string | null }) => `backend ${pid}${name ? ` (${name})` : ''}`
