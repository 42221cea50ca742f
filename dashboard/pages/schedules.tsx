import { get, search, send, useData } from '../api.ts'
import type { PageProps } from '../main.tsx'
import { Act, Loaded, State, Table, Time } from '../parts.tsx'

/** Without payloads, which are not shown. */
async function allSchedules() {
  const schedules: Awaited<ReturnType<typeof page>>['schedules'] = []
  const page = (after?: string) => get<'schedules'>(`schedules${search({ payloads: 'false', ...(after !== undefined && { after }) })}`) // biome-ignore format: long
  for (let next: string | null | undefined; next !== null; ) {
    const found = await page(next)
    schedules.push(...found.schedules)
    next = found.next
  }
  return { schedules }
}

export function Schedules({ may }: PageProps) {
  const data = useData('schedules', allSchedules)
  return (
    <Loaded data={data}>
      {({ schedules }) => (
        <Table
          label="Schedules"
          empty="No schedule. Code defines one: email.schedule('nightly', '0 3 * * *', payload)"
          heads={[
            'Schedule',
            '-State',
            '-Cron',
            'Next',
            '-After that',
            '-Latest tick',
            '-Its job',
            '-Type',
            ...(may ? [''] : []),
          ]}
          rows={schedules.map(({ name, paused, inCode, cron, timezone, ticks, lastAt, lastJob, type, queue }) => [
            name,
            name,
            <State state={paused ? 'paused' : inCode ? 'open' : 'not in code'} />,
            <>
              <code>{cron}</code> <span class="dim">{timezone}</span>
            </>,
            <Time at={paused ? null : ticks[0]} none={paused ? 'when resumed' : 'never'} />,
            <span class="ticks">{paused ? null : ticks.slice(1, 4).map((at) => <Time key={at} at={at} />)}</span>,
            <Time at={lastAt} none="none yet" />,
            lastJob === null ? <span class="dim">none yet</span> : <a href={`#/job/${lastJob}`}>{lastJob}</a>,
            <>
              <a href={`#/jobs${search({ queue, type })}`}>{type}</a> <span class="dim">in {queue}</span>
            </>,
            ...(may
              ? [
                  <span class="actions">
                    <Act
                      label={`Run now: ${name}`}
                      confirm="Its job is submitted at once. The ticks stay as they are."
                      act={() => send<'runSchedule'>('POST', `schedules/${encodeURIComponent(name)}/run`)}
                    >
                      Run now
                    </Act>
                    <Act
                      label={`${paused ? 'Resume' : 'Pause'} schedule ${name}`}
                      act={() =>
                        send<'pauseSchedule'>('PATCH', `schedules/${encodeURIComponent(name)}`, { paused: !paused })
                      }
                    >
                      {paused ? 'Resume' : 'Pause'}
                    </Act>
                    {!inCode && (
                      <Act
                        danger
                        label={`Remove schedule ${name}`}
                        confirm="No process defines it any more. Its jobs stay; it makes no others."
                        act={() => send<'removeSchedule'>('DELETE', `schedules/${encodeURIComponent(name)}`)}
                      >
                        Remove
                      </Act>
                    )}
                  </span>,
                ]
              : []),
          ])}
        />
      )}
    </Loaded>
  )
}
