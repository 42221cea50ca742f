import { render } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { type CallError, connect, get, isLive, token, updates, useData } from './api.ts'
import { Dead, Failing } from './pages/dead.tsx'
import { JobPage } from './pages/job.tsx'
import { Jobs } from './pages/jobs.tsx'
import { Overview } from './pages/overview.tsx'
import { Queues } from './pages/queues.tsx'
import { Schedules } from './pages/schedules.tsx'
import { Storage } from './pages/storage.tsx'
import { Types } from './pages/types.tsx'
import { Workers } from './pages/workers.tsx'
import { Notice, State } from './parts.tsx'
import './style.css'

export interface PageProps {
  query: URLSearchParams
  /** Whether the token allows to change things: else no button is there that would fail. */
  may: boolean
}

const pages: Record<string, [string, (props: PageProps) => preact.JSX.Element]> = {
  '': ['Overview', Overview],
  jobs: ['Jobs', Jobs],
  failing: ['Failing now', Failing],
  dead: ['Dead letters', Dead],
  types: ['Types', Types],
  queues: ['Queues', Queues],
  schedules: ['Schedules', Schedules],
  workers: ['Workers', Workers],
  storage: ['Storage', Storage],
}

const Nowhere = (_: PageProps) => (
  <p>
    There is no page at <code>{location.hash}</code>. Go to the <a href="#/">overview</a>.
  </p>
)

function useHash(): string {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const hear = () => setHash(location.hash)
    addEventListener('hashchange', hear)
    return () => removeEventListener('hashchange', hear)
  }, [])
  return hash
}

const themes = ['light dark', 'light', 'dark']

function Theme() {
  const [theme, setTheme] = useState(localStorage.getItem('gopherqueue-theme') ?? themes[0]!)
  document.documentElement.style.colorScheme = theme
  const next = themes[(themes.indexOf(theme) + 1) % themes.length]!
  const set = () => {
    localStorage.setItem('gopherqueue-theme', next)
    setTheme(next)
  }
  return (
    <button type="button" class="quiet" onClick={set}>
      <span class="wide">Theme: </span>
      {theme === themes[0] ? 'system' : theme}
    </button>
  )
}

function App() {
  const hash = useHash()
  const [, tick] = useState(0)
  useEffect(() => {
    const beat = setInterval(() => tick((n) => n + 1), 1000) // relative times go on
    return () => clearInterval(beat)
  }, [])
  const access = useData('access', () => get<'access'>('access'))
  const health = useData('health', () => get<'health'>('health'))
  const [, path = '', search = ''] = /^#?\/?(.*?)(?:\?(.*))?$/.exec(hash) ?? []
  const id = /^job\/(\d+)$/.exec(path)?.[1]
  const [title, Page] = Object.hasOwn(pages, path) ? pages[path]! : (['No such page', Nowhere] as const)
  const heading = useRef<HTMLHeadingElement>(null)
  const shown = id ? `Job ${id}` : title
  useEffect(() => {
    document.title = `${shown} · GopherQueue`
    if (hash !== '') heading.current?.focus()
    document.querySelector('nav [aria-current]')?.scrollIntoView({ inline: 'center', block: 'nearest' })
  }, [shown])
  if (['UNAUTHORIZED', 'FORBIDDEN'].includes(access.error?.code ?? ''))
    return <SignIn error={token.get() === null ? undefined : access.error} />
  const may = access.value?.scopes.includes('admin') ?? false
  const status = health.error ? 'unreachable' : (health.value?.status ?? 'unknown')
  return (
    <>
      <button type="button" class="skip" onClick={() => heading.current?.focus()}>
        Skip to content
      </button>
      <header>
        <a class="brand" href="#/">
          GopherQueue
        </a>
        <State state={status} />
        <button type="button" class="quiet" aria-pressed={updates.paused} onClick={updates.toggle}>
          {updates.paused ? 'Updates paused' : isLive ? 'Live' : 'Connecting…'}
        </button>
        <span class="grow" />
        {access.value && !may && <span class="dim">Read only</span>}
        {token.get() !== null && (
          <button type="button" class="quiet" onClick={() => token.set(null)}>
            Sign out
          </button>
        )}
        <Theme />
      </header>
      <nav aria-label="Pages">
        {Object.entries(pages).map(([to, [label]]) => (
          <a key={to} href={`#/${to}`} aria-current={to === path ? 'page' : undefined}>
            {label}
          </a>
        ))}
      </nav>
      <main id="main">
        <h1 ref={heading} tabIndex={-1}>
          {shown}
        </h1>
        {id ? (
          <JobPage key={id} id={Number(id)} may={may} />
        ) : (
          <Page key={path} query={new URLSearchParams(search)} may={may} />
        )}
      </main>
    </>
  )
}

function SignIn({ error }: { error: CallError | undefined }) {
  const input = useRef<HTMLInputElement>(null)
  return (
    <main class="sign-in">
      <h1>GopherQueue</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          token.set(input.current!.value.trim())
        }}
      >
        <label>
          Token
          <input ref={input} type="password" autocomplete="off" required />
        </label>
        <button type="submit" class="main">
          Sign in
        </button>
        <p class="dim">
          Made by <code>gopherqueue token create NAME --scope read</code>, or admin to change things. It is kept in this
          tab until you close it.
        </p>
        <Notice error={error} />
      </form>
    </main>
  )
}

connect()
render(<App />, document.getElementById('app')!)
