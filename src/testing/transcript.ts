import type { Instant } from '../model/clock.ts'
import type { Attempt, Job } from '../model/job.ts'

/** One job's life as text, a line for each thing that happened, with instants since `start`: no ids of machines, no stacks. */
export function transcribe(job: Job, attempts: Attempt[], start: Instant): string {
  const line = (at: Instant | null, what: string) => `  ${at === null ? ' '.repeat(15) : since(at - start)} ${what}`
  const { id, type, queue, payload, state, result, reason } = job
  const now = state === 'scheduled' ? 'due' : state
  const why = state === 'succeeded' ? ` with ${JSON.stringify(result)}` : reason ? ` (${reason})` : ''
  return [
    `#${id} ${type}${queue === 'default' ? '' : ` in ${queue}`} ${JSON.stringify(payload)}`,
    line(job.createdAt, 'submitted'),
    ...attempts.map((attempt) => line(attempt.startedAt, told(attempt))),
    line(job.finishedAt ?? job.runAt, `${now}${why}`),
  ].join('\n')
}

function told({ attempt, startedAt, finishedAt, outcome, error }: Attempt): string {
  const took = finishedAt !== null && finishedAt > startedAt ? ` after ${finishedAt - startedAt} ms` : ''
  const why = error ? `: ${error.name}: ${error.message.replaceAll('\n', '\n    ')}` : ''
  return `attempt ${attempt} ${outcome}${took}${why}`
}

/** 90061000 -> '1d 01:01:01.000', to the width of 15 characters. */
function since(ms: number): string {
  const days = Math.floor(ms / 86_400_000)
  return `${days}d ${new Date(ms - days * 86_400_000).toISOString().slice(11, 23)}`.padStart(15)
}
